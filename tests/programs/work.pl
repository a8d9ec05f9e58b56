# SPDX-License-Identifier: LGPL-2.1-or-later
#
# work.pl ENTRIES: a large hash, and children that read it, change it, and
# answer through pipes and sockets.  What a child changes must stay the child's.
use strict;
use warnings;
use Socket;
use POSIX ();
use IO::Handle;

my $entries = shift;
$| = 1;

my %h;
my $x = 12345;
for my $i (0 .. $entries - 1) {
	$x = ($x * 1103515245 + 12345) % 2147483648;
	$h{"key$i"} = { n => $i, text => chr(97 + $x % 26) x (40 + $x % 60), list => [$x % 7, $x % 11] };
}

# A digest of a part, in this process.
sub digest {
	my ($part, $parts) = @_;
	my $sum = 0;
	for (my $i = $part; $i < $entries; $i += $parts) {
		my $e = $h{"key$i"};
		$sum = ($sum * 31 + $e->{n} + length($e->{text}) + ord($e->{text}) + $e->{list}[1]) % 1000000007;
	}
	return $sum;
}

print "entries ", scalar(keys %h), " digest ", digest(0, 1), "\n";

# Workers answer through pipes, each spoils its copy.
my @pipes;
for my $w (0 .. 3) {
	pipe(my $r, my $s) or die "pipe: $!";
	my $pid = fork() // die "fork: $!";
	if ($pid == 0) {
		close $r;
		my $before = digest($w, 4);
		$h{"key$_"}{text} = "spoilt by $w" for grep { $_ % 5 == $w } 0 .. $entries - 1;
		print $s "worker $w: $before then ", digest($w, 4), "\n";
		close $s;
		POSIX::_exit(20 + $w);
	}
	close $s;
	push @pipes, [$pid, $r];
}
$h{"key$_"}{text} .= "!" for grep { $_ % 9 == 0 } 0 .. $entries - 1; # while they read
for my $p (@pipes) {
	my $fh = $p->[1];
	print while <$fh>;
	waitpid($p->[0], 0) == $p->[0] or die "waitpid: $!";
	print "status ", $? >> 8, "\n";
}
chop $h{"key$_"}{text} for grep { $_ % 9 == 0 } 0 .. $entries - 1;
print "parent ", digest(0, 1), "\n";

# fork by open, both ways.
my $pid = open(my $from, '-|') // die "open: $!";
if ($pid == 0) {
	print "from the child: ", digest(1, 3), "\n";
	exit 4;
}
print while <$from>;
close $from;
print "status ", $? >> 8, "\n";
$pid = open(my $to, '|-') // die "open: $!";
if ($pid == 0) {
	my $n = 0;
	while (<STDIN>) { chomp; $n += exists $h{$_} ? 1 : 0; delete $h{$_} }
	print "known $n, left ", scalar(keys %h), "\n";
	exit 5;
}
print $to "key$_\n" for grep { $_ % 10 == 0 } 0 .. 2 * $entries - 1;
close $to;
print "status ", $? >> 8, "\n";

# A child of a child of a child.
sub deeper {
	my $level = shift;
	return digest(0, 7) if $level == 0;
	my $child = fork() // die "fork: $!";
	if ($child == 0) {
		$h{key0}{n} = $level;
		my $d = deeper($level - 1);
		print "level $level: $d\n" if $level % 4 == 1;
		POSIX::_exit($level);
	}
	waitpid($child, 0);
	return digest(0, 7) . " status $?";
}
print "depth: ", deeper(6), "\n";

# A socket pair, and signals.
socketpair(my $one, my $two, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die "socketpair: $!";
$_->autoflush(1) for $one, $two;
$pid = fork() // die "fork: $!";
if ($pid == 0) {
	close $one;
	while (<$two>) {
		chomp;
		my $e = $h{$_};
		print $two $e ? "$e->{n} $e->{text}\n" : "nothing\n";
	}
	exit 0;
}
close $two;
my $same = 0;
for my $i (map { $_ * 37 % $entries } 1 .. 500) {
	print $one "key$i\n";
	my $answer = <$one>;
	$same++ if $answer eq "$i $h{qq(key$i)}{text}\n";
}
close $one;
waitpid($pid, 0);
print "same $same\n";
my $got = 0;
local $SIG{USR1} = sub { $got += length(join ',', map { $h{"key$_"}{text} } 0 .. 999) };
for (1 .. 3) {
	$pid = fork() // die "fork: $!";
	if ($pid == 0) { kill 'USR1', getppid(); POSIX::_exit(0) }
	waitpid($pid, 0);
}
print "signals $got\n";

# Programs, and sorting and strings to end with.
print "echo: ", `echo \$((6 * 7))`;
print "system ", system('exit 9;') >> 8, "\n";
my @sorted = sort { $h{$a}{text} cmp $h{$b}{text} || $a cmp $b } keys %h;
print "first $sorted[0], last $sorted[-1]\n";
my $long = join "\n", map { "$_=$h{$_}{text}" } @sorted;
print "length ", length($long), ", lines with zz: ", scalar(() = $long =~ /^[^\n]*zz[^\n]*$/mg), "\n";
print "end ", digest(0, 1), "\n";
exit 6;

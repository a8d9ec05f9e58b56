# SPDX-License-Identifier: LGPL-2.1-or-later
#
# work-openssl.sh MIB DIRECTORY: sign, encrypt and check a message that openssl
# holds in memory, in several processes at once.
set -eu

mib=$1
mkdir "$2/openssl"
cd "$2/openssl"

# A stream cipher of zeros is as good as random, and the same every time.
key=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff
head -c "$((mib << 20))" /dev/zero |
	openssl enc -chacha20 -K "$key" -iv 000102030405060708090a0b0c0d0e0f >message

cp "$3" key.pem
openssl req -new -x509 -key key.pem -subj /CN=test -days 36500 -set_serial 1 -out cert.pem
openssl dgst -sha256 message

sign_and_check() {
	openssl cms -sign -binary -nodetach -noattr -in message -signer cert.pem -inkey key.pem \
		-nocerts -outform DER -out "signed.$1"
	openssl cms -verify -binary -inform DER -in "signed.$1" -certfile cert.pem -CAfile cert.pem \
		-purpose any -out "verified.$1" 2>"said.$1"
	cmp message "verified.$1"
	openssl cms -encrypt -binary -aes-256-cbc -secretkey "$key" -secretkeyid "$1$1" \
		-in message -outform DER -out "encrypted.$1"
	openssl cms -decrypt -inform DER -secretkey "$key" -in "encrypted.$1" -out "decrypted.$1"
	cmp message "decrypted.$1"
}

jobs=
for n in 1 2 3; do
	sign_and_check "$n" >"out.$n" 2>&1 &
	jobs="$jobs $!"
done
for job in $jobs; do
	status=0
	wait "$job" || status=$?
	echo "status $status"
done
cat out.* said.*
md5sum signed.* verified.* decrypted.*

# Forks of openssl's own: how fast is chance, what is said is not.
for what in sha256 aes-256-gcm; do
	openssl speed -multi 4 -seconds 1 -bytes 1048576 -mr -evp "$what" >speeds 2>said
	sed -nE 's/^(\+[A-Z]+:[0-9]+):.*/\1/p; s/^Got: \+([A-Z]+:[0-9]+):.*from ([0-9])$/\1 \2/p' speeds | sort
done

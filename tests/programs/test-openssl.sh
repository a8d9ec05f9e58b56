#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# openssl signs, encrypts and checks messages of FL_OPENSSL_MIB (default 6), three
# at a time, and measures its own speed in forked processes.
. "${FL_SRC:-.}/tests/programs/paged.sh"

needs openssl
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$dir/key.pem" 2>/dev/null
cat >"$dir/openssl.cnf" <<'END'
[req]
distinguished_name = name
x509_extensions = extensions
[name]
[extensions]
basicConstraints = CA:true
END
OPENSSL_CONF=$dir/openssl.cnf
export OPENSSL_CONF
limit=3072
native openssl sh "$FL_SRC/tests/programs/work-openssl.sh" "${FL_OPENSSL_MIB:-6}" "$dir" "$dir/key.pem"
[ "$(grep -cx 'status 0' "$dir/openssl.native.out")" -eq 3 ] ||
	fail "openssl: $(cat "$dir/openssl.native.out" "$dir/openssl.native.err")"
rm -rf "$dir/openssl"
managed openssl sh "$FL_SRC/tests/programs/work-openssl.sh" "${FL_OPENSSL_MIB:-6}" "$dir" "$dir/key.pem"
same openssl
family_was_paged openssl 6

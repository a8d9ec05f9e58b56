// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Fill the standard containers with pseudo-random data, change them, sort,
// and print checksums of all that they hold.
//
//	containers MIB
//
// takes about MIB of memory: a third for a vector, a third for a map, a third
// for an unordered_map and the strings in it.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

static uint64_t state = 88172645463325252ULL;

static uint64_t next()
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static uint64_t fold(uint64_t sum, uint64_t word)
{
	return (sum ^ word) * 0x100000001b3ULL;
}

static void use_vector(size_t bytes)
{
	std::vector<uint64_t> v;
	uint64_t sum = 0;

	while (v.size() < bytes / sizeof(v[0]))
		v.push_back(next());
	std::sort(v.begin(), v.end());
	if (!std::is_sorted(v.begin(), v.end()))
		std::exit(1);
	for (uint64_t x : v)
		sum = fold(sum, x);
	std::printf("vector %zu %016llx\n", v.size(), static_cast<unsigned long long>(sum));
}

// Keys rise with some disorder, as those of a log do: neighbours are near in memory, mostly.
static void use_map(size_t bytes)
{
	std::map<uint64_t, std::string> m;
	uint64_t sum = 0, n = bytes / 400;

	for (uint64_t i = 0; i < n; i++)
		m[i * 1000 + next() % 100000] =
			std::string(250 + next() % 64, static_cast<char>('a' + i % 26));
	for (auto it = m.begin(); it != m.end();)
		it = it->first % 5 == 0 ? m.erase(it) : std::next(it);
	for (const auto &[k, s] : m)
		for (char c : s)
			sum = fold(sum, k + static_cast<unsigned char>(c));
	std::printf("map %zu %016llx\n", m.size(), static_cast<unsigned long long>(sum));
}

static void use_unordered_map(size_t bytes)
{
	std::unordered_map<uint64_t, std::vector<uint32_t>> m;
	uint64_t sum = 0, n = bytes / 600;
	std::vector<uint64_t> keys;

	for (uint64_t i = 0; i < n; i++) {
		uint64_t k = next();

		m[k].assign(128, static_cast<uint32_t>(k));
		if (i % 16 == 0)
			keys.push_back(k);
	}
	for (uint64_t k : keys)
		m.at(k).push_back(static_cast<uint32_t>(k >> 32));
	// The order of iteration is the library's own: the sum must not depend on it.
	for (const auto &[k, v] : m) {
		uint64_t one = k;

		for (uint32_t x : v)
			one = fold(one, x);
		sum += one;
	}
	std::printf("unordered_map %zu %016llx\n", m.size(), static_cast<unsigned long long>(sum));
}

int main(int argc, char **argv)
{
	size_t third = (argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 0) * (1 << 20) / 3;

	if (!third) {
		std::fputs("usage: containers MIB\n", stderr);
		return 2;
	}
	use_vector(third);
	use_map(third);
	use_unordered_map(third);
	return 0;
}

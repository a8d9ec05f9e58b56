/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * graph.c - breadth-first search and PageRank on a Kronecker graph.
 *
 *	bench-graph bfs|pagerank SCALE
 *
 * makes a graph of 2^SCALE vertices and 16 times as many edges, as the Graph
 * 500 benchmark does (each bit of an edge's ends falls with the probabilities
 * 0.57, 0.19, 0.19, 0.05), then searches it from some vertices, or ranks them.
 * It is an ordinary program, that knows nothing of paging: edges as they are
 * made, then adjacent vertices behind each other, by vertex.
 *
 * What comes out is checked: of a search, that each edge joins levels that
 * differ by one at most and that each vertex but the first has a neighbour one
 * level above; of the ranks, that they add up to one.  A checksum of the
 * result is printed: it is the same wherever the program runs.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EDGES_EACH 16U
#define GROUP_BITS 6U
#define SEED 88172645463325252ULL
#define SEARCHES 2U
#define ROUNDS 8U
#define DAMPING 0.85
#define UNSEEN UINT32_MAX

struct graph {
	uint32_t n;
	uint64_t *first; /* n + 1: where the neighbours of a vertex begin in */
	uint32_t *to;
};

static _Noreturn void die(const char *why)
{
	fprintf(stderr, "faultline: bench-graph: %s\n", why);
	exit(1);
}

static void *get(size_t n, size_t size)
{
	void *p = calloc(n, size);

	if (!p)
		die("out of memory");
	return p;
}

static uint64_t next_word(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

/* Neighbours in numbers that tell nothing: a permutation of them. */
static uint32_t scatter(uint32_t v, uint32_t n)
{
	return (uint32_t)((uint64_t)v * 2654435761U + 12345) & (n - 1);
}

/* The next edge: a bit of both ends at a time, four from one word. */
static void next_edge(const struct graph *g, unsigned scale, uint64_t *seed, uint32_t end[2])
{
	uint64_t word = 0;

	end[0] = end[1] = 0;
	for (unsigned i = 0; i < scale; i++) {
		uint32_t x;

		if (i % 4 == 0)
			word = next_word(seed);
		x = (uint32_t)(word & 0xffff);
		word >>= 16;
		/* of 65536: 37356, 12452, 12452 and the rest */
		end[0] = end[0] << 1 | (x >= 49808);
		end[1] = end[1] << 1 | ((x >= 37356 && x < 49808) || x >= 62260);
	}
	end[0] = scatter(end[0], g->n);
	end[1] = scatter(end[1], g->n);
}

/*
 * The edges are made twice: counted by the groups of vertices that their ends
 * are in, then laid down group by group, both ways; from there each group fills
 * its part of the lists.  So no step is at random over all of it.
 */
static void make(struct graph *g, unsigned scale)
{
	unsigned shift = scale > GROUP_BITS ? scale - GROUP_BITS : 0;
	uint64_t edges = (uint64_t)EDGES_EACH << scale;
	uint64_t begin[(1U << GROUP_BITS) + 1] = {0};
	uint64_t at[1U << GROUP_BITS];
	uint64_t seed = SEED;
	uint32_t(*pair)[2];
	uint64_t *next;
	uint32_t end[2];

	g->n = (uint32_t)1 << scale;
	for (uint64_t e = 0; e < edges; e++) {
		next_edge(g, scale, &seed, end);
		begin[(end[0] >> shift) + 1]++;
		begin[(end[1] >> shift) + 1]++;
	}
	for (unsigned i = 0; i < 1U << GROUP_BITS; i++) {
		begin[i + 1] += begin[i];
		at[i] = begin[i];
	}
	pair = get(2 * edges, sizeof(*pair));
	seed = SEED;
	for (uint64_t e = 0; e < edges; e++) {
		next_edge(g, scale, &seed, end);
		for (unsigned k = 0; k < 2; k++) {
			uint64_t i = at[end[k] >> shift]++;

			pair[i][0] = end[k];
			pair[i][1] = end[1 - k];
		}
	}
	g->first = get((size_t)g->n + 1, sizeof(*g->first));
	g->to = get(2 * edges, sizeof(*g->to));
	next = get(g->n, sizeof(*next));
	for (uint64_t i = 0; i < 2 * edges; i++)
		g->first[pair[i][0] + 1]++;
	for (uint32_t v = 0; v < g->n; v++) {
		g->first[v + 1] += g->first[v];
		next[v] = g->first[v];
	}
	for (uint64_t i = 0; i < 2 * edges; i++)
		g->to[next[pair[i][0]]++] = pair[i][1];
	free(next);
	free(pair);
}

static void check_levels(const struct graph *g, const uint32_t *level, uint32_t root)
{
	for (uint32_t v = 0; v < g->n; v++) {
		int found = v == root || level[v] == UNSEEN;

		for (uint64_t i = g->first[v]; i < g->first[v + 1]; i++) {
			uint32_t w = g->to[i];

			if ((level[v] == UNSEEN) != (level[w] == UNSEEN))
				die("a neighbour was not reached");
			if (level[v] == UNSEEN)
				continue;
			if (level[w] > level[v] + 1 || level[v] > level[w] + 1)
				die("an edge leads over a level");
			found |= level[w] + 1 == level[v];
		}
		if (!found)
			die("a vertex was reached from nowhere");
	}
}

static uint64_t search(const struct graph *g)
{
	uint32_t *level = get(g->n, sizeof(*level));
	uint32_t *queue = get(g->n, sizeof(*queue));
	uint64_t seed = 4711, sum = 0;

	for (unsigned s = 0; s < SEARCHES; s++) {
		uint32_t head = 0, tail = 0;
		uint32_t root;

		do {
			root = (uint32_t)next_word(&seed) & (g->n - 1);
		} while (g->first[root] == g->first[root + 1]);
		memset(level, 0xff, g->n * sizeof(*level));
		level[root] = 0;
		queue[tail++] = root;
		while (head < tail) {
			uint32_t v = queue[head++];

			for (uint64_t i = g->first[v]; i < g->first[v + 1]; i++) {
				uint32_t w = g->to[i];

				if (level[w] != UNSEEN)
					continue;
				level[w] = level[v] + 1;
				queue[tail++] = w;
			}
		}
		sum = sum * 31 + tail;
		for (uint32_t v = 0; v < g->n; v++)
			sum += level[v] != UNSEEN ? (uint64_t)level[v] * v : 0;
		if (s == 0)
			check_levels(g, level, root);
	}
	free(queue);
	free(level);
	return sum;
}

static uint64_t rank(const struct graph *g)
{
	double *now = get(g->n, sizeof(*now));
	double *share = get(g->n, sizeof(*share));
	double all = 0;
	uint64_t sum = 0;

	for (uint32_t v = 0; v < g->n; v++)
		now[v] = 1.0 / g->n;
	for (unsigned round = 0; round < ROUNDS; round++) {
		double lost = 0; /* of vertices without a neighbour: everybody's */

		for (uint32_t v = 0; v < g->n; v++) {
			uint64_t degree = g->first[v + 1] - g->first[v];

			share[v] = degree ? now[v] / (double)degree : 0;
			lost += degree ? 0 : now[v];
		}
		for (uint32_t v = 0; v < g->n; v++) {
			double in = 0;

			for (uint64_t i = g->first[v]; i < g->first[v + 1]; i++)
				in += share[g->to[i]];
			now[v] = (1 - DAMPING + DAMPING * lost) / g->n + DAMPING * in;
		}
	}
	for (uint32_t v = 0; v < g->n; v++) {
		uint64_t bits;

		all += now[v];
		memcpy(&bits, &now[v], sizeof(bits));
		sum = sum * 31 + bits;
	}
	if (fabs(all - 1) > 1e-6)
		die("the ranks do not add up to one");
	free(share);
	free(now);
	return sum;
}

int main(int argc, char **argv)
{
	unsigned scale = argc == 3 ? (unsigned)atoi(argv[2]) : 0;
	int is_bfs = argc == 3 && !strcmp(argv[1], "bfs");
	struct graph g;

	if (scale < 4 || scale > 26 || (!is_bfs && strcmp(argv[1], "pagerank") != 0)) {
		fputs("usage: bench-graph bfs|pagerank SCALE (4 to 26)\n", stderr);
		return 2;
	}
	make(&g, scale);
	printf("checksum %016llx\n", (unsigned long long)(is_bfs ? search(&g) : rank(&g)));
	free(g.to);
	free(g.first);
	return 0;
}

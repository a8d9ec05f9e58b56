// SPDX-License-Identifier: LGPL-2.1-or-later
//
// work.mjs MIB: a large heap of objects and buffers, collected again and again;
// worker threads, forked processes and programs beside it.
import { fork, execFile, execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { Worker, isMainThread, parentPort, workerData } from "node:worker_threads";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { gzipSync, gunzipSync } from "node:zlib";

const self = fileURLToPath(import.meta.url);

function random(seed) {
	let x = seed >>> 0 || 1;
	return () => {
		x ^= x << 13;
		x >>>= 0;
		x ^= x >>> 17;
		x ^= x << 5;
		x >>>= 0;
		return x;
	};
}

function build(mib, seed) {
	const next = random(seed);
	const objects = new Map();
	for (let i = 0; i < mib * 1500; i++)
		objects.set(`key${i}`, { i, text: String(next()).repeat(8), list: [next() % 100, next()] });
	const buffers = [];
	for (let i = 0; i < mib * 4; i++) {
		const b = Buffer.alloc(64 << 10);
		for (let k = 0; k < b.length; k += 4) b.writeUInt32LE(next(), k);
		buffers.push(b);
	}
	return { objects, buffers };
}

function digest({ objects, buffers }) {
	const h = createHash("md5");
	for (const [k, v] of objects) h.update(k + v.i + v.text + v.list);
	for (const b of buffers) h.update(b);
	return h.digest("hex");
}

function churn(heap, rounds) {
	const next = random(99);
	for (let n = 0; n < rounds; n++) {
		const i = next() % heap.objects.size;
		const v = heap.objects.get(`key${i}`);
		heap.objects.set(`key${i}`, { i: v.i, text: v.text.split("").reverse().join(""), list: [...v.list] });
	}
	if (globalThis.gc) globalThis.gc();
}

if (!isMainThread) {
	const heap = build(workerData.mib, workerData.seed);
	churn(heap, 20000);
	parentPort.postMessage(digest(heap));
} else if (process.send) {
	process.on("message", (m) => {
		if (m === null) process.exit(11);
		const heap = build(m.mib, m.seed);
		process.send({ seed: m.seed, digest: digest(heap) });
	});
} else {
	const mib = Number(process.argv[2]);
	const heap = build(mib, 7);
	console.log("built", heap.objects.size, heap.buffers.length, digest(heap));
	churn(heap, 50000);
	console.log("churned", digest(heap));

	const workers = [1, 2].map((seed) => new Worker(self, { workerData: { mib: mib / 8, seed } }));
	console.log("workers", await Promise.all(workers.map(async (w) => (await once(w, "message"))[0])));

	const children = [3, 4].map(() => fork(self, []));
	const answers = await Promise.all(children.map(async (c, n) => {
		c.send({ mib: mib / 8, seed: n + 1 });
		const [m] = await once(c, "message");
		c.send(null);
		const [code] = await once(c, "exit");
		return `${m.digest} ${code}`;
	}));
	console.log("forked", answers);

	const { stdout } = await promisify(execFile)("sh", ["-c", "echo $((6 * 7)); seq 3 | sort -r"]);
	console.log("exec", JSON.stringify(stdout), execFileSync("cat", { input: "input" }).toString());
	const sort = spawn("sort", ["-n"]);
	const lines = Array.from({ length: 50000 }, (_, i) => (i * 7919) % 50000);
	sort.stdin.end(lines.join("\n") + "\n");
	let sorted = "";
	for await (const chunk of sort.stdout) sorted += chunk;
	console.log("spawned", sorted.split("\n").slice(0, 3), createHash("md5").update(sorted).digest("hex"));

	const all = Buffer.concat(heap.buffers);
	console.log("zip", gunzipSync(gzipSync(all, { level: 1 })).equals(all));
	const shared = new Int32Array(new SharedArrayBuffer(4096));
	Atomics.add(shared, 0, 5);
	console.log("json", JSON.parse(JSON.stringify([...heap.objects.values()])).length, shared[0]);
	churn(heap, 1000);
	console.log("end", digest(heap));
	process.exitCode = 5;
}

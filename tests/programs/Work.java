// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Work MIB: a live set of MIB and much garbage around it, threads that change
// it, direct buffers, and other programs started meanwhile.
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

public class Work {
	static final Map<Integer, byte[]> live = new HashMap<>();

	static String digest(int part, int parts) throws Exception {
		MessageDigest md = MessageDigest.getInstance("MD5");
		for (int i = part; i < live.size(); i += parts)
			md.update(live.get(i));
		StringBuilder s = new StringBuilder();
		for (byte b : md.digest())
			s.append(String.format("%02x", b));
		return s.toString();
	}

	static List<String> inThreads(int threads, int parts) throws Exception {
		ExecutorService pool = Executors.newFixedThreadPool(threads);
		List<Callable<String>> calls = new ArrayList<>();
		for (int n = 0; n < parts; n++) {
			final int part = n;
			calls.add(() -> {
				Random r = new Random(part);
				long sum = 0;
				for (int k = 0; k < 20000; k++) {
					byte[] garbage = new byte[r.nextInt(4000)];
					sum += garbage.length + live.get(r.nextInt(live.size())).length;
				}
				return part + ":" + sum + ":" + digest(part, parts);
			});
		}
		List<String> results = new ArrayList<>();
		for (Future<String> f : pool.invokeAll(calls))
			results.add(f.get());
		pool.shutdown();
		return results;
	}

	static String program(String... command) throws Exception {
		Process p = new ProcessBuilder(command).redirectErrorStream(true).start();
		p.getOutputStream().close();
		StringBuilder out = new StringBuilder();
		try (BufferedReader r = new BufferedReader(new InputStreamReader(p.getInputStream()))) {
			for (String line; (line = r.readLine()) != null;)
				out.append(line).append('/');
		}
		return out + " " + p.waitFor();
	}

	static int depth(int n) {
		return depth(n + 1) + 1;
	}

	public static void main(String[] args) throws Exception {
		int entries = Integer.parseInt(args[0]) * 1024;
		Random r = new Random(5);
		for (int i = 0; i < entries; i++) {
			byte[] b = new byte[900 + i % 200];
			r.nextBytes(b);
			live.put(i, b);
		}
		System.out.println("built " + live.size() + " " + digest(0, 1));

		List<byte[]> last = new ArrayList<>();
		long total = 0;
		for (int i = 0; i < entries * 2; i++) {
			byte[] b = new byte[1000 + r.nextInt(1000)];
			b[i % b.length] = 1;
			total += b.length;
			if (i % 8 == 0)
				last.add(b);
			if (last.size() > 2000)
				last.clear();
			if (i % 16 == 0)
				live.put(i % entries, live.get(i % entries).clone());
		}
		System.out.println("collected " + total + " " + digest(0, 1));
		System.out.println("threads " + inThreads(4, 6));

		ByteBuffer direct = ByteBuffer.allocateDirect(8 << 20);
		for (int i = 0; i < direct.capacity(); i += 8)
			direct.putLong(i, i * 0x9e3779b97f4a7c15L);
		System.out.println("programs " + program("sh", "-c", "echo $((6 * 7)); exit 3") + " "
			+ program("seq", "3"));
		int wrong = 0;
		for (int i = 0; i < direct.capacity(); i += 8)
			wrong += direct.getLong(i) == i * 0x9e3779b97f4a7c15L ? 0 : 1;
		System.out.println("direct " + wrong);

		// What the virtual machine makes of SIGSEGV: null checks and stack overflows.
		try {
			depth(0);
		} catch (StackOverflowError e) {
			System.out.println("stack overflow");
		}
		int caught = 0;
		for (int i = 0; i < 20000; i++) {
			try {
				caught += live.get(-1 - i).length;
			} catch (NullPointerException e) {
				caught++;
			}
		}
		System.gc();
		System.out.println("null " + caught + ", end " + digest(0, 1));
		System.exit(4);
	}
}

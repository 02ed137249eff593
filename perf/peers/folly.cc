// SPDX-License-Identifier: Apache-2.0
// What a decision of folly::TokenBucket costs: one, which knows no keys, and one for each key
// in a map behind a shared mutex, in slices that take turns, as perf/bench.c does it.  Prints
// JSON.
#include <folly/TokenBucket.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include <sched.h>
#include <time.h>

namespace {

constexpr unsigned operations = 3200;
volatile bool sink;

// Tokens a second, and the burst. Never denies: nobody asks once a nanosecond.
constexpr double limit = 1e9;

std::string key_of(std::uint64_t number)
{
	std::string key(16, '_');

	key.replace(0, 8, reinterpret_cast<const char *>(&number), 8);
	return key;
}

struct Random {
	std::uint64_t state;

	std::uint64_t below(std::uint64_t n)
	{
		std::uint64_t x = state += 0x9e3779b97f4a7c15;

		x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
		x = (x ^ x >> 27) * 0x94d049bb133111eb;
		return static_cast<std::uint64_t>(
			static_cast<unsigned __int128>(x ^ x >> 31) * n >> 64);
	}
};

struct Keyed {
	std::shared_mutex mutex;
	std::unordered_map<std::string, folly::TokenBucket> buckets;

	bool consume(const std::string &key)
	{
		{
			std::shared_lock<std::shared_mutex> lock(mutex);
			auto found = buckets.find(key);

			if (found != buckets.end())
				return found->second.consume(1);
		}
		std::unique_lock<std::shared_mutex> lock(mutex);

		return buckets.try_emplace(key, limit, limit).first->second.consume(1);
	}
};

// This thread's processor time in ns, without what others had of the processor.
double own_time()
{
	timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

// This thread on one processor, if there is that one.
void pin(int processor)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(processor, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

template <typename Call> double time_slice(Call call)
{
	double begin = own_time();

	for (unsigned i = 0; i < operations; i++)
		sink = call();
	return (own_time() - begin) / operations;
}

double run_keyed(Keyed &keyed, std::uint64_t keys, std::uint64_t seed)
{
	Random random{seed};
	std::string key = key_of(0);

	return time_slice([&] {
		std::uint64_t number = keys == 1 ? 0 : random.below(keys);

		key.replace(0, 8, reinterpret_cast<const char *>(&number), 8);
		return keyed.consume(key);
	});
}

// Two threads side by side; the time of one call of one thread.
double run_twice(Keyed &keyed, std::uint64_t keys, std::uint64_t seed)
{
	std::atomic<int> arrived{0};
	double times[2];
	auto run = [&](int i) {
		pin(i);
		arrived++;
		while (arrived < 2)     // a slice is shorter than waking somebody up
			;
		times[i] = run_keyed(keyed, keys, seed + static_cast<std::uint64_t>(i));
	};
	std::thread other(run, 1);

	run(0);
	other.join();
	return (times[0] + times[1]) / 2;
}

struct Kernel {
	const char *name;
	std::function<double(std::uint64_t)> run;
	std::vector<double> times;
};

} // namespace

int main(int argc, char **argv)
{
	std::uint64_t keys = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1000000;
	std::uint64_t rounds = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 101;
	folly::TokenBucket one(limit, limit);
	Keyed keyed;

	if (keys == 0 || rounds == 0) {
		std::fprintf(stderr, "usage: folly [KEYS [ROUNDS]], both at least 1\n");
		return 2;
	}
	keyed.buckets.reserve(keys);
	for (std::uint64_t i = 0; i < keys; i++)
		keyed.buckets.try_emplace(key_of(i), limit, limit);
	Kernel kernels[] = {
		{"direct", [&](auto) { return time_slice([&] { return one.consume(1); }); }, {}},
		{"hot", [&](auto) { return run_keyed(keyed, 1, 0); }, {}},
		{"keys", [&](auto seed) { return run_keyed(keyed, keys, seed); }, {}},
		{"two_hot", [&](auto) { return run_twice(keyed, 1, 0); }, {}},
		{"two_keys", [&](auto seed) { return run_twice(keyed, keys, seed); }, {}},
	};
	for (std::uint64_t round = 0; round < rounds; round++) {
		for (Kernel &kernel : kernels)
			kernel.times.push_back(kernel.run(round << 32));
	}
	std::printf("{\"keys\": %llu, \"rounds\": %llu, \"kernels\": {",
		    static_cast<unsigned long long>(keys), static_cast<unsigned long long>(rounds));
	const char *separator = "";
	for (Kernel &kernel : kernels) {
		std::sort(kernel.times.begin(), kernel.times.end());
		std::printf("%s\n  \"%s\": {\"min_ns\": %.2f, \"median_ns\": %.2f}", separator,
			    kernel.name, kernel.times.front(), kernel.times[kernel.times.size() / 2]);
		separator = ",";
	}
	std::printf("\n}}\n");
}

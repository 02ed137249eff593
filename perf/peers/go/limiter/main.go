// SPDX-License-Identifier: Apache-2.0

// What a decision of golang.org/x/time/rate costs: one limiter, and one for each key in
// a sync.Map or in a map behind a mutex, in slices that take turns, as perf/bench.c does
// it.  Prints JSON.
package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/time/rate"
)

const (
	operations          = 3200
	clockThreadCPU      = 3 // CLOCK_THREAD_CPUTIME_ID
	nanosecondsInSecond = 1e9
)

// newLimiter never denies: nobody asks once a nanosecond.
func newLimiter() *rate.Limiter {
	return rate.NewLimiter(1e9, 1e9)
}

func keyOf(number uint64) string {
	return fmt.Sprintf("%016d", number)
}

type random uint64

func (r *random) below(n uint64) uint64 {
	*r += 0x9e3779b97f4a7c15
	x := uint64(*r)
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return (x ^ x>>31) % n
}

// The keys of a slice, made before it is timed: a request brings its own with it.
type slice [operations]string

func (s *slice) fill(keys uint64, r *random) {
	for i := range s {
		s[i] = keyOf(r.below(keys))
	}
}

// ownTime is this thread's processor time in ns, without what others had of the processor.
func ownTime() float64 {
	var now syscall.Timespec

	syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockThreadCPU, uintptr(unsafe.Pointer(&now)), 0)
	return float64(now.Sec)*nanosecondsInSecond + float64(now.Nsec)
}

// pin keeps this thread on one processor, if there is that one.
func pin(processor int) {
	mask := [16]uint64{1 << processor}

	syscall.Syscall(syscall.SYS_SCHED_SETAFFINITY, 0, unsafe.Sizeof(mask),
		uintptr(unsafe.Pointer(&mask)))
}

// perOperation needs a goroutine that keeps its thread.
func perOperation(begin float64) float64 {
	return (ownTime() - begin) / operations
}

func direct(limiter *rate.Limiter) float64 {
	begin := ownTime()
	for range operations {
		limiter.Allow()
	}
	return perOperation(begin)
}

type allower interface {
	allow(s *slice) float64
}

type syncMap struct{ sync.Map }

func (m *syncMap) allow(s *slice) float64 {
	begin := ownTime()
	for _, key := range s {
		value, ok := m.Load(key)
		if !ok {
			value, _ = m.LoadOrStore(key, newLimiter())
		}
		value.(*rate.Limiter).Allow()
	}
	return perOperation(begin)
}

type mutexMap struct {
	sync.Mutex
	limiters map[string]*rate.Limiter
}

func (m *mutexMap) allow(s *slice) float64 {
	begin := ownTime()
	for _, key := range s {
		m.Lock()
		limiter := m.limiters[key]
		if limiter == nil {
			limiter = newLimiter()
			m.limiters[key] = limiter
		}
		m.Unlock()
		limiter.Allow()
	}
	return perOperation(begin)
}

// twice lets two goroutines run side by side, and returns the time of one call of one.
func twice(m allower, slices *[2]slice) float64 {
	var times [2]float64
	var arrived atomic.Int32
	var done sync.WaitGroup

	done.Add(2)
	for i := range slices {
		go func() {
			runtime.LockOSThread() // not unlocked: the thread ends with the goroutine
			pin(i)
			arrived.Add(1)
			for arrived.Load() < 2 { // a slice is shorter than waking somebody up
			}
			times[i] = m.allow(&slices[i])
			done.Done()
		}()
	}
	done.Wait()
	return (times[0] + times[1]) / 2
}

func argument(index int, otherwise uint64) uint64 {
	if len(os.Args) <= index {
		return otherwise
	}
	value, err := strconv.ParseUint(os.Args[index], 10, 32)
	if err != nil {
		fmt.Fprintln(os.Stderr, "limiter:", err)
		os.Exit(2)
	}
	return value
}

func main() {
	runtime.LockOSThread()
	keys, rounds := argument(1, 1000000), argument(2, 101)
	one := newLimiter()
	inMap := &syncMap{}
	inMutex := &mutexMap{limiters: make(map[string]*rate.Limiter, keys)}
	for number := range keys {
		inMap.Store(keyOf(number), newLimiter())
		inMutex.limiters[keyOf(number)] = newLimiter()
	}

	var seed random
	var some [2]slice
	keyed := func(m allower, keys uint64) func() float64 {
		return func() float64 {
			some[0].fill(keys, &seed)
			return m.allow(&some[0])
		}
	}
	both := func(m allower, keys uint64) func() float64 {
		return func() float64 {
			some[0].fill(keys, &seed)
			some[1].fill(keys, &seed)
			return twice(m, &some)
		}
	}
	kernels := []struct {
		name string
		run  func() float64
	}{
		{"direct", func() float64 { return direct(one) }},
		{"hot", keyed(inMap, 1)},
		{"keys", keyed(inMap, keys)},
		{"mutex_hot", keyed(inMutex, 1)},
		{"mutex_keys", keyed(inMutex, keys)},
		{"two_hot", both(inMap, 1)},
		{"two_keys", both(inMap, keys)},
	}
	times := make([][]float64, len(kernels))
	debug.SetGCPercent(-1) // collected between rounds, and so never within a slice
	for round := range rounds {
		if round%64 == 0 {
			runtime.GC()
		}
		for i, kernel := range kernels {
			times[i] = append(times[i], kernel.run())
		}
	}
	fmt.Printf("{\"keys\": %d, \"rounds\": %d, \"kernels\": {", keys, rounds)
	for i, kernel := range kernels {
		slices.Sort(times[i])
		separator := ","
		if i == 0 {
			separator = ""
		}
		fmt.Printf("%s\n  \"%s\": {\"min_ns\": %.2f, \"median_ns\": %.2f}", separator, kernel.name,
			times[i][0], times[i][len(times[i])/2])
	}
	fmt.Println("\n}}")
}

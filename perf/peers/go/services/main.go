// SPDX-License-Identifier: Apache-2.0

// Asks a rate limit service over gRPC, one decision a call, from some goroutines that
// share one connection, and tells how long the answers took.  Prints JSON.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	envoy_common "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	envoy "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"github.com/gubernator-io/gubernator/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// An ask is one decision about a key; an error if it was not allowed.
type ask func(ctx context.Context, key string) error

func askRatelimit(connection *grpc.ClientConn) ask {
	client := envoy.NewRateLimitServiceClient(connection)
	return func(ctx context.Context, key string) error {
		answer, err := client.ShouldRateLimit(ctx, &envoy.RateLimitRequest{
			Domain: "perf",
			Descriptors: []*envoy_common.RateLimitDescriptor{{
				Entries: []*envoy_common.RateLimitDescriptor_Entry{{Key: "key", Value: key}},
			}},
		})
		if err == nil && answer.OverallCode != envoy.RateLimitResponse_OK {
			err = fmt.Errorf("the service answered %v", answer.OverallCode)
		}
		return err
	}
}

func askGubernator(connection *grpc.ClientConn) ask {
	client := gubernator.NewV1Client(connection)
	return func(ctx context.Context, key string) error {
		answer, err := client.GetRateLimits(ctx, &gubernator.GetRateLimitsReq{
			Requests: []*gubernator.RateLimitReq{{
				Name: "perf", UniqueKey: key, Hits: 1, Limit: 1000000000, Duration: 3600000,
				Algorithm: gubernator.Algorithm_TOKEN_BUCKET,
			}},
		})
		if err == nil && answer.Responses[0].Error != "" {
			err = fmt.Errorf("the service answered %s", answer.Responses[0].Error)
		}
		if err == nil && answer.Responses[0].Status != gubernator.Status_UNDER_LIMIT {
			err = fmt.Errorf("the service answered %v", answer.Responses[0].Status)
		}
		return err
	}
}

// awaitReady waits for the first decision: a service that listens may still look for its
// peers.
func awaitReady(decide ask) {
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		err := decide(context.Background(), "first")
		if err == nil {
			return
		}
		if time.Now().After(until) {
			log.Fatal(err)
		}
	}
}

// run asks until the time is over, and returns how long each answer took.
func run(decide ask, keys uint64, until time.Time) []time.Duration {
	var times []time.Duration

	for now := time.Now(); now.Before(until); {
		err := decide(context.Background(), fmt.Sprintf("%016d", rand.Uint64N(keys)))
		if err != nil {
			log.Fatal(err)
		}
		after := time.Now()
		times = append(times, after.Sub(now))
		now = after
	}
	return times
}

func main() {
	service := flag.String("service", "", "ratelimit or gubernator")
	address := flag.String("address", "", "host:port of its gRPC interface")
	keys := flag.Uint64("keys", 1000000, "number of keys")
	callers := flag.Int("callers", 1, "goroutines that ask")
	duration := flag.Duration("duration", time.Second, "how long they ask")
	flag.Parse()

	connection, err := grpc.NewClient(*address,
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	asks := map[string]func(*grpc.ClientConn) ask{
		"ratelimit": askRatelimit, "gubernator": askGubernator}
	if asks[*service] == nil {
		log.Fatalf("-service %q: say ratelimit or gubernator", *service)
	}
	decide := asks[*service](connection)
	awaitReady(decide)

	var all []time.Duration
	var mutex sync.Mutex
	var group sync.WaitGroup
	begin := time.Now()
	for range *callers {
		group.Add(1)
		go func() {
			defer group.Done()
			times := run(decide, *keys, begin.Add(*duration))
			mutex.Lock()
			defer mutex.Unlock()
			all = append(all, times...)
		}()
	}
	group.Wait()
	elapsed := time.Since(begin)
	slices.Sort(all)
	fmt.Printf("{\"decisions\": %d, \"per_second\": %.0f, \"p50_ns\": %d, \"p99_ns\": %d}\n",
		len(all), float64(len(all))/elapsed.Seconds(), all[len(all)/2].Nanoseconds(),
		all[len(all)*99/100].Nanoseconds())
}

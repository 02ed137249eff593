// SPDX-License-Identifier: Apache-2.0
module weir/perf/peers

go 1.24

require (
	github.com/envoyproxy/go-control-plane/envoy v1.32.4
	github.com/envoyproxy/go-control-plane/ratelimit v0.1.0
	github.com/gubernator-io/gubernator/v2 v2.13.0
	golang.org/x/time v0.12.0
	google.golang.org/grpc v1.74.0
)

/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/envoy_fixture.h"

struct engine_double fake;
struct envoy_options options;

void envoy_begin(void)
{
	double_init(&fake);
	envoy_options_init(&options);
}

static const char rules[] =
	"domain: d\n"
	"descriptors:\n"
	"- {key: ten, rate_limit: {unit: minute, requests_per_unit: 10, name: T}}\n"
	"- {key: two, rate_limit: {unit: hour, requests_per_unit: 2}}\n"
	"- {key: none, rate_limit: {unit: hour, requests_per_unit: 0}}\n"
	"- {key: shadow, shadow_mode: true, rate_limit: {unit: hour, requests_per_unit: 2}}\n"
	"- {key: quota, quota_mode: true, rate_limit: {unit: hour, requests_per_unit: 2},\n"
	"   metadata: {from: quota, deep: {a: 1}}}\n"
	"- {key: meta, rate_limit: {unit: hour, requests_per_unit: 2},\n"
	"   metadata: {from: meta, deep: {a: 2, b: 3}, more: true}}\n"
	"- {key: free, rate_limit: {unlimited: true}}\n";

struct envoy_service *start_service(void)
{
	return double_service(&fake, &options, rules);
}

struct envoy_answer ask(struct envoy_service *service, const char *descriptors, uint32_t hits)
{
	return double_ask(service, "d", descriptors, hits);
}

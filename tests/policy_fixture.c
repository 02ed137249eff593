/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/policy_fixture.h"

#include <stdarg.h>
#include <string.h>

void set(int host, const char *name, const char *limits, enum weir_consistency consistency)
{
	struct weir_policy policy = fixture_policy(name, limits);

	policy.consistency = consistency;
	ck_assert_int_eq(weir_policy_set(hosts[host], &policy, 1, NULL), 0);
}

/* A command beside the hosts' own, in hiredis' format. */
redisReply *redis(const char *format, ...)
{
	redisContext *context = redis_server_connect(server);
	va_list arguments;
	redisReply *reply;

	va_start(arguments, format);
	reply = redisvCommand(context, format, arguments);
	va_end(arguments);
	ck_assert_ptr_nonnull(reply);
	ck_assert_msg(reply->type != REDIS_REPLY_ERROR, "%s", reply->str);
	redisFree(context);
	return reply;
}

struct weir_disagreement disagreement(int host)
{
	struct weir_disagreement list[4];

	wait_until(weir_sync_disagreements(hosts[host], list, LENGTH(list)) == 1);
	return list[0];
}

bool is_told(int host, const char *theirs)
{
	return strcmp(disagreement(host).theirs, theirs) == 0;
}

bool agrees(int host)
{
	struct weir_disagreement list[1];

	return status_of(hosts[host]).disagreeing == 0 &&
	       weir_sync_disagreements(hosts[host], list, 1) == 0;
}

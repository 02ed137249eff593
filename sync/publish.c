/* SPDX-License-Identifier: Apache-2.0 */
/*
 * publish.c - change what is published, on a connection of one's own.
 *
 * Two who publish at once have read the same tag, and the script lets one of them
 * through.
 */
#include "sync/publish.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "shm/error.h"
#include "sync/erase.h"
#include "sync/script.h"
#include "sync/secret.h"

void publisher_close(struct publisher *publisher)
{
	redis_route_destroy(publisher->route);
	publication_free(&publisher->publication);
	free(publisher->there);
}

/* One call, and its answer. */
static int exchange(struct publisher *publisher, const struct redis_call *call,
		    struct redis_result *result, struct weir_error *error)
{
	struct weir_error cause = { 0 };
	enum redis_error outcome = redis_route_call(publisher->route, call, 1, UINT64_MAX, result,
						    &cause);
	char why[256];

	if (outcome != REDIS_ERROR_NONE)
		return weir_fail(error, WEIR_ESYSTEM, "%s: %s", redis_route_place(publisher->route),
				 cause.message[0] ? cause.message : redis_error_name(outcome));
	if (result->error == REDIS_ERROR_NONE)
		return 0;
	return weir_fail(error, WEIR_ESYSTEM, "%s: %s", publisher->key,
			 redis_route_explain(publisher->route, result, "a call", why, sizeof(why)));
}

static struct redis_call command(const char *key, int argc, const char *const *argv)
{
	return (struct redis_call){ .script = REDIS_COMMAND, .key = key,
				    .key_length = strlen(key), .argc = argc, .argv = argv };
}

static int check_secret(struct publisher *publisher, const char *prefix, struct weir_error *error)
{
	char key[SYNC_KEY_SIZE], ours[SECRET_DIGEST_SIZE];
	const char *argv[] = { "GET", key }, *theirs;
	struct redis_call get;
	struct redis_result result = { 0 };
	size_t length;
	int status;

	sync_cluster_key(key, prefix);
	get = command(key, 2, argv);
	secret_digest(publisher->segment->secret, ours);
	status = exchange(publisher, &get, &result, error);
	if (status)
		return status;
	theirs = redis_reply_text(result.reply, &length);
	if (!theirs || strcmp(theirs, ours) == 0)
		return 0;
	return weir_fail(error, WEIR_EINVAL,
			 "the hosts at %s that share prefix \"%s\" have another hash secret than "
			 "segment %s; publish from one of theirs, or use another prefix",
			 redis_route_place(publisher->route), prefix, publisher->segment->path);
}

/* What nobody believes is as good as nothing; what we cannot read, others might. */
static int read_there(struct publisher *publisher, const struct redis_reply *reply,
		      struct weir_error *error)
{
	size_t length = 0;
	const char *tag = redis_reply_text(redis_reply_at(reply, 0), &publisher->there_length);
	const char *text = redis_reply_text(redis_reply_at(reply, 1), &length);
	unsigned char right[TAG_SIZE];
	struct weir_error cause;

	if (!tag)
		publisher->there_length = 0;
	publisher->there = malloc(publisher->there_length + 1);
	if (!publisher->there)
		return weir_fail(error, WEIR_ENOMEM, "no memory for a publication; free some");
	memcpy(publisher->there, tag ? tag : "", publisher->there_length);
	if (!text || publisher->there_length != TAG_SIZE)
		return 0;
	publication_tag(publisher->segment->secret, text, length, right);
	if (memcmp(right, tag, TAG_SIZE) != 0)
		return 0;
	if (publication_parse(text, length, &publisher->publication, &cause) == 0)
		return 0;
	return weir_fail(error, WEIR_EINVAL,
			 "%s; publish from a host that can read it, or delete the fields tag and "
			 "publication of %s", cause.message, publisher->key);
}

int publisher_open(struct publisher *publisher, const struct segment *segment,
		   const struct weir_sync_options *options, struct weir_error *error)
{
	const char *scripts[] = { publish_script };
	const char *argv[] = { "HMGET", publisher->key, "tag", "publication" };
	struct redis_options parsed;
	struct redis_call get;
	struct redis_result result = { 0 };
	struct weir_error cause = { 0 };
	int status = redis_url_parse(options->url, &parsed, error);

	*publisher = (struct publisher){ .segment = segment };
	if (status == 0)
		status = sync_prefix_check(options->prefix, error);
	if (status == 0)
		status = redis_route_create(&parsed, scripts, 1, &publisher->route, error);
	if (status)
		return status;
	sync_policies_key(publisher->key, options->prefix);
	get = command(publisher->key, 4, argv);
	if (redis_route_connect(publisher->route, &cause) != REDIS_ERROR_NONE)
		return weir_fail(error, WEIR_ESYSTEM, "%s: %s", redis_route_place(publisher->route),
				 cause.message);
	status = check_secret(publisher, options->prefix, error);
	if (status == 0)
		status = exchange(publisher, &get, &result, error);
	if (status)
		return status;
	return read_there(publisher, result.reply, error);
}

/* Beyond all that this host knows of, also where Redis has lost it. */
static uint64_t next_version(const struct publisher *publisher)
{
	const struct segment_header *header = publisher->segment->header;
	/* Relaxed: numbers that are good by themselves. */
	uint64_t published = atomic_load_relaxed(&header->others.published);
	uint64_t applied = atomic_load_relaxed(&header->others.applied);
	uint64_t version = publisher->publication.version;

	version = published > version ? published : version;
	return (applied > version ? applied : version) + 1;
}

int publisher_offer(struct publisher *publisher, struct weir_error *error)
{
	struct publication *publication = &publisher->publication;
	const char *argv[3] = { publisher->there, (const char *)publisher->tag };
	size_t lengths[3] = { publisher->there_length, TAG_SIZE };
	struct redis_call offer = { .script = 0, .key = publisher->key,
				    .key_length = strlen(publisher->key), .argc = 3, .argv = argv,
				    .lengths = lengths };
	struct redis_result result = { 0 };
	char *text;
	int status;

	publication->version = next_version(publisher);
	publication->host = publisher->segment->incarnation;
	if (publication->version > PUBLICATION_VERSION_MAX)
		return weir_fail(error, WEIR_EINVAL,
				 "there is no version after %" PRIu64 "; make the segments anew",
				 publication->version - 1);
	status = publication_format(publication, &text, &lengths[2], error);
	if (status)
		return status;
	argv[2] = text;
	publication_tag(publisher->segment->secret, text, lengths[2], publisher->tag);
	status = exchange(publisher, &offer, &result, error);
	free(text);
	if (status)
		return status;
	if (redis_reply_count(result.reply) >= 1 &&
	    redis_reply_integer(redis_reply_at(result.reply, 0)) == 0)
		return weir_ok(error);
	return weir_fail(error, WEIR_EBUSY,
			 "another host has published meanwhile, and nothing of this was; see what it "
			 "is (weir sync status), and publish again");
}

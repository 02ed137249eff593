/* SPDX-License-Identifier: Apache-2.0 */
#include "sync/redis_slots.h"

#include <string.h>

/* CRC-16/XMODEM: polynomial x^16 + x^12 + x^5 + 1, from 0, bits not reflected. */
static uint16_t crc16(const char *bytes, size_t length)
{
	uint16_t crc = 0;

	for (size_t i = 0; i < length; i++) {
		crc ^= (uint16_t)((unsigned char)bytes[i] << 8);
		for (int bit = 0; bit < 8; bit++)
			crc = (uint16_t)(crc << 1 ^ (crc & 0x8000 ? 0x1021 : 0));
	}
	return crc;
}

unsigned redis_slot(const char *key, size_t length)
{
	const char *open = length > 0 ? memchr(key, '{', length) : NULL;
	size_t rest = open ? (size_t)(key + length - open) - 1 : 0;
	const char *close = rest > 0 ? memchr(open + 1, '}', rest) : NULL;

	if (close && close > open + 1)
		return crc16(open + 1, (size_t)(close - open) - 1) % REDIS_SLOTS;
	return crc16(key, length) % REDIS_SLOTS;
}

/* ---- Addresses --------------------------------------------------------- */

/* A node that knows no address of its own means the one that it was asked at.  A '?'
 * stands for a name that nobody has given it. */
static bool set_address(const char *host, size_t length, int64_t port,
			const struct redis_address *asked, struct redis_address *address)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789.-_:%";

	if (port < 1 || port > 65535 || length >= sizeof(address->host))
		return false;
	*address = (struct redis_address){ .port = (uint16_t)port };
	if (length == 0) {
		memcpy(address->host, asked->host, sizeof(address->host));
		return true;
	}
	memcpy(address->host, host, length);
	/* Of a zero byte within it strspn() does not get past. */
	return strspn(address->host, allowed) == length;
}

/* [host, port, id, ...] */
static bool node_address(const struct redis_reply *node, const struct redis_address *asked,
			 struct redis_address *address)
{
	const struct redis_reply *host = redis_reply_at(node, 0), *port = redis_reply_at(node, 1);
	enum redis_type type = redis_reply_type(host);
	size_t length;
	const char *text = redis_reply_text(host, &length);

	if (type != REDIS_TYPE_STRING && type != REDIS_TYPE_STATUS && type != REDIS_TYPE_NIL)
		return false;
	if (redis_reply_type(port) != REDIS_TYPE_INTEGER)
		return false;
	return set_address(text, length, redis_reply_integer(port), asked, address);
}

/* ---- CLUSTER SLOTS ----------------------------------------------------- */

/* [first, last, master, replica...] */
static bool range_has(const struct redis_reply *range, unsigned slot)
{
	const struct redis_reply *first = redis_reply_at(range, 0), *last = redis_reply_at(range, 1);

	return redis_reply_type(first) == REDIS_TYPE_INTEGER &&
	       redis_reply_type(last) == REDIS_TYPE_INTEGER &&
	       redis_reply_integer(first) <= (int64_t)slot &&
	       (int64_t)slot <= redis_reply_integer(last);
}

bool redis_slots_owner(const struct redis_reply *reply, unsigned slot,
		       const struct redis_address *asked, struct redis_address *owner)
{
	bool found = false;

	for (size_t i = 0; i < redis_reply_count(reply); i++) {
		const struct redis_reply *range = redis_reply_at(reply, i);
		struct redis_address address;

		if (range_has(range, slot) &&
		    node_address(redis_reply_at(range, 2), asked, &address)) {
			*owner = address;
			found = true;
		}
	}
	return found;
}

void redis_slots_each(const struct redis_reply *reply, const struct redis_address *asked,
		      bool (*visit)(void *context, const struct redis_address *address),
		      void *context)
{
	for (size_t i = 0; i < redis_reply_count(reply); i++) {
		const struct redis_reply *range = redis_reply_at(reply, i);

		for (size_t k = 2; k < redis_reply_count(range); k++) {
			struct redis_address address;

			if (node_address(redis_reply_at(range, k), asked, &address) &&
			    !visit(context, &address))
				return;
		}
	}
}

/* ---- Redirections ------------------------------------------------------ */

/* At most five digits of TEXT; -1 if there is anything else. */
static int64_t number(const char *text, size_t length)
{
	int64_t value = 0;

	if (length == 0 || length > 5)
		return -1;
	for (size_t i = 0; i < length; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -1;
		value = value * 10 + (text[i] - '0');
	}
	return value;
}

bool redis_slots_redirect(const char *text, size_t length, const struct redis_address *asked,
			  struct redis_address *to)
{
	const char *end = text + length, *slot, *host, *colon;
	enum redis_error kind = length > 0 ? redis_error_classify(text, length) : REDIS_ERROR_NONE;

	if (kind != REDIS_ERROR_MOVED && kind != REDIS_ERROR_ASK)
		return false;
	slot = memchr(text, ' ', length);
	host = slot ? memchr(slot + 1, ' ', (size_t)(end - slot) - 1) : NULL;
	if (!host || number(slot + 1, (size_t)(host - slot) - 1) < 0)
		return false;
	host++;
	/* The last one: an IPv6 address has colons of its own. */
	colon = memrchr(host, ':', (size_t)(end - host));
	if (!colon)
		return false;
	return set_address(host, (size_t)(colon - host),
			   number(colon + 1, (size_t)(end - colon) - 1), asked, to);
}

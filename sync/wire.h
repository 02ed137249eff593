/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire.h - numbers on their way to weir_sync.lua and back.
 *
 * Lua's numbers are doubles, exact up to 2^53; 400 days are 2^55 ns.  So a time is
 * two numbers: whole seconds, and nanoseconds from 0 to 999,999,999.
 */
#ifndef WEIR_SYNC_WIRE_H
#define WEIR_SYNC_WIRE_H

#include <stdint.h>
#include <string.h>

#define WIRE_ITEM 56u           /* bytes: name 16, d 8, E 8, V 8, cap 8, gen 4, flags 4 */
#define WIRE_REPLY 12u          /* bytes: G 8, whose two highest bits are an error; gen 4 */
#define WIRE_ERROR_SHIFT 30     /* of the nanoseconds of a G */
#define WIRE_WINDOW 64u         /* bytes: name 16, end 8, period 8, delta 8, total 8, previous 8,
                                 * gen 4, flags 4 */
#define WIRE_WINDOW_REPLY 24u   /* bytes: total 8, previous 8, gen 4, error 4 */
#define WIRE_HOLD 24u           /* bytes: name 16, held 8 */
#define WIRE_HOLD_REPLY 16u     /* bytes: others 8, hosts 4, error 4 */
#define WIRE_SECOND 1000000000ll
#define WIRE_NONE INT64_MIN     /* minus infinity: E of a bucket that was never idle */

#define WIRE_RESTORE 1u
#define WIRE_RESET 2u

static inline unsigned char *wire_put32(unsigned char *at, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		*at++ = (unsigned char)(value >> (8 * i));
	return at;
}

static inline uint32_t wire_get32(const unsigned char *at)
{
	return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 |
	       (uint32_t)at[3] << 24;
}

static inline unsigned char *wire_put64(unsigned char *at, uint64_t value)
{
	at = wire_put32(at, (uint32_t)value);
	return wire_put32(at, (uint32_t)(value >> 32));
}

static inline int64_t wire_get64(const unsigned char *at)
{
	return (int64_t)(wire_get32(at) | (uint64_t)wire_get32(at + 4) << 32);
}

/* A duration; beyond 68 years, that. */
static inline unsigned char *wire_put_ns(unsigned char *at, int64_t ns)
{
	int64_t part = ns % WIRE_SECOND;
	int64_t seconds = ns / WIRE_SECOND - (part < 0);

	if (part < 0)
		part += WIRE_SECOND;
	if (seconds < INT32_MIN || seconds > INT32_MAX) {
		part = seconds < 0 ? 0 : WIRE_SECOND - 1;
		seconds = seconds < 0 ? INT32_MIN : INT32_MAX;
	}
	at = wire_put32(at, (uint32_t)(int32_t)seconds);
	return wire_put32(at, (uint32_t)part);
}

static inline int64_t wire_get_ns(const unsigned char *at)
{
	return (int64_t)(int32_t)wire_get32(at) * WIRE_SECOND + (int64_t)wire_get32(at + 4);
}

#endif

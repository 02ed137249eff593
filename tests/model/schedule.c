/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schedule.c - the steps that lead to a violation, for a person.
 *
 * Where the code stood is a return address; addr2line tells function, file and
 * line, with those of the functions that were inlined there.  Without it the
 * address is shown.
 */
#include "tests/model/schedule.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The innermost function that is not of the seam itself, and its caller if both
 * are inlined in one. */
static void place_of(const void *where, char *place, size_t size)
{
	char self[256], command[400], function[128], line[256];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	FILE *pipe = NULL;

	snprintf(place, size, "%p", where);
	self[length > 0 ? length : 0] = '\0';
	/* One before: the call itself, not what follows it. */
	snprintf(command, sizeof(command), "addr2line -e '%s' -f -i -s %p 2>/dev/null", self,
		 (const void *)((const char *)where - 1));
	if (length > 0)
		pipe = popen(command, "r");
	if (!pipe)
		return;
	while (fgets(function, sizeof(function), pipe) && fgets(line, sizeof(line), pipe)) {
		function[strcspn(function, "\n")] = '\0';
		line[strcspn(line, " \n")] = '\0';
		if (strncmp(line, "atomic.h:", 9) == 0 || function[0] == '?')
			continue;
		snprintf(place, size, "%.60s %.60s", line, function);
		break;
	}
	while (fgets(line, sizeof(line), pipe))
		;               /* or addr2line dies of SIGPIPE, loudly */
	pclose(pipe);
}

void schedule_print(unsigned index, unsigned thread, bool killed, const void *where,
		    const struct model_region *regions, unsigned region_count,
		    const unsigned char *before)
{
	char place[160] = "is killed";

	if (!killed)
		place_of(where, place, sizeof(place));
	printf("%4u  %*sthread %u  %s\n", index + 1, (int)(thread * 2), "", thread, place);
	for (unsigned i = 0; i < region_count; i++) {
		const uint64_t *now = (const uint64_t *)regions[i].memory;
		const uint64_t *old = (const uint64_t *)(before + regions[i].offset);

		for (size_t word = 0; word < regions[i].size / 8; word++) {
			if (now[word] != old[word])
				printf("          %s+%zu: %#llx -> %#llx\n", regions[i].name,
				       word * 8, (unsigned long long)old[word],
				       (unsigned long long)now[word]);
		}
	}
}

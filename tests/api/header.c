/* SPDX-License-Identifier: Apache-2.0 */
/* The public header needs nothing before it, and is plain C11: no extension but
 * those that it asks for itself, no name outside of weir_ and WEIR_. */
#include "weir.h"
#include "weir.h"

int main(void)
{
	struct weir_options options;

	weir_options_init(&options);
	return options.slots == 65536 && options.group == (gid_t)-1 ? 0 : 1;
}

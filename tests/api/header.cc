// SPDX-License-Identifier: Apache-2.0
// The public header as a C++ program sees it: it compiles without a warning, and
// what it declares links.
#include "weir.h"
#include "weir.h" // twice: it guards itself

#include <cstring>
#include <type_traits>

// Callers fill these by assignment and copy them as bytes.
static_assert(std::is_trivially_copyable<weir_request>::value, "");
static_assert(std::is_standard_layout<weir_decision>::value, "");

static bool visit(const weir_bucket *bucket, void *context)
{
	++*static_cast<unsigned *>(context);
	return bucket->key_length > 0;
}

int main()
{
	weir_limit limit;
	weir_error error;
	char text[96];
	unsigned visited = 0;
	bool (*visitor)(const weir_bucket *, void *) = visit;
	weir_bucket bucket = {};

	if (weir_limit_parse("100/1m burst 20", &limit, &error) != WEIR_OK)
		return 1;
	if (weir_limit_format(&limit, text, sizeof(text)) != 15)
		return 2;
	if (std::strcmp(text, "100/1m burst 20") != 0 || limit.algorithm != WEIR_TOKEN_BUCKET)
		return 3;
	if (std::strcmp(weir_version(), WEIR_VERSION) != 0)
		return 4;
	return visitor(&bucket, &visited) || visited != 1 ? 5 : 0;
}

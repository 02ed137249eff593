/* SPDX-License-Identifier: Apache-2.0 */
/*
 * release.h - the two behaviours of envoyproxy/ratelimit that deployments rely on.
 *
 * The project has no numbered releases; its images are named after commits.  Between
 * the two commits the following changed: the key "metadata" came, wildcards may stand
 * anywhere in a value and not only at its end, a descriptor in quota mode that is over
 * is reported as over, and requests whose quota descriptors are all over are refused.
 */
#ifndef WEIR_SERVE_RELEASE_H
#define WEIR_SERVE_RELEASE_H

enum envoy_release {
	ENVOY_2026_07,          /* f2fb157 of July 2026, the default */
	ENVOY_2026_01,          /* 3fb7025 of January 2026 */
};

#endif

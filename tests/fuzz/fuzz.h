/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_FUZZ_H
#define WEIR_FUZZ_H

#include <stddef.h>
#include <stdint.h>

#include "tests/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* script.h - weir_sync.lua, as the build puts it into the library. */
#ifndef WEIR_SYNC_SCRIPT_H
#define WEIR_SYNC_SCRIPT_H

extern const char sync_script[];

#endif

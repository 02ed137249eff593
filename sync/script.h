/* SPDX-License-Identifier: Apache-2.0 */
/* script.h - the scripts that Redis runs, as the build puts them into the library. */
#ifndef WEIR_SYNC_SCRIPT_H
#define WEIR_SYNC_SCRIPT_H

extern const char sync_script[];        /* weir_sync.lua */
extern const char policies_script[];    /* weir_policies.lua */
extern const char publish_script[];     /* weir_publish.lua */
extern const char lease_script[];       /* weir_lease.lua */

#endif

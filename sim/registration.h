#ifndef ESCROW_SIM_REGISTRATION_H_
#define ESCROW_SIM_REGISTRATION_H_

#include <liburing/io_uring.h>

namespace escrow::sim {

// What the program asks for when it registers files or buffers, and when it
// replaces some of them. `size` is what it says that the structure has. 0 or
// -errno.
int LoadRegistration(const void* argument, unsigned size,
                     io_uring_rsrc_register* asked) noexcept;
int LoadUpdate(const void* argument, unsigned size,
               io_uring_rsrc_update2* asked) noexcept;

}  // namespace escrow::sim

#endif  // ESCROW_SIM_REGISTRATION_H_

#ifndef ESCROW_DOCS_LIFETIMES_PAGE_H_
#define ESCROW_DOCS_LIFETIMES_PAGE_H_

#include <string>

namespace escrow::docs {

// The text of lifetimes.md: prose, and tables made from the operation types.
std::string LifetimesPage();

}  // namespace escrow::docs

#endif  // ESCROW_DOCS_LIFETIMES_PAGE_H_

#ifndef ESCROW_TESTS_AGGREGATE_H_
#define ESCROW_TESTS_AGGREGATE_H_

#include <cstddef>
#include <type_traits>
#include <utility>

// What the language does not tell of an aggregate: how many fields it has, of
// which types, and how many of them have to be given.

namespace escrow::testing {

template <typename... Types>
struct TypeList {
  static constexpr std::size_t kSize = sizeof...(Types);
};

namespace aggregate_internal {

inline constexpr std::size_t kMaxFields = 12;

// An initializer for a field of any type. Never evaluated.
struct Anything {
  template <typename T>
  operator T() const;  // NOLINT(google-explicit-constructor)
};

template <typename Aggregate, std::size_t... kIndices>
constexpr bool TakesInitializers(std::index_sequence<kIndices...>) {
  return requires { Aggregate{(void(kIndices), Anything{})...}; };
}

template <typename Aggregate, std::size_t kCount>
constexpr bool kTakes =
    TakesInitializers<Aggregate>(std::make_index_sequence<kCount>());

template <typename Aggregate, std::size_t kCount = kMaxFields>
constexpr std::size_t MostInitializers() {
  static_assert(!kTakes<Aggregate, kMaxFields + 1>, "raise kMaxFields");
  if constexpr (kCount == 0 || kTakes<Aggregate, kCount>) {
    return kCount;
  } else {
    return MostInitializers<Aggregate, kCount - 1>();
  }
}

template <typename Aggregate, std::size_t kCount = 0>
constexpr std::size_t FewestInitializers() {
  if constexpr (kTakes<Aggregate, kCount>) {
    return kCount;
  } else {
    static_assert(kCount < kMaxFields);
    return FewestInitializers<Aggregate, kCount + 1>();
  }
}

template <typename... Fields>
TypeList<std::remove_cvref_t<Fields>...> ListOf(const Fields&...);

// Structured bindings are the way to the types; each needs a number of names.
template <typename Aggregate>
constexpr auto FieldTypes(const Aggregate& aggregate) {
  constexpr std::size_t kCount = MostInitializers<Aggregate>();
  if constexpr (kCount == 0) {
    return TypeList<>();
  } else if constexpr (kCount == 1) {
    const auto& [a] = aggregate;
    return decltype(ListOf(a))();
  } else if constexpr (kCount == 2) {
    const auto& [a, b] = aggregate;
    return decltype(ListOf(a, b))();
  } else if constexpr (kCount == 3) {
    const auto& [a, b, c] = aggregate;
    return decltype(ListOf(a, b, c))();
  } else if constexpr (kCount == 4) {
    const auto& [a, b, c, d] = aggregate;
    return decltype(ListOf(a, b, c, d))();
  } else if constexpr (kCount == 5) {
    const auto& [a, b, c, d, e] = aggregate;
    return decltype(ListOf(a, b, c, d, e))();
  } else if constexpr (kCount == 6) {
    const auto& [a, b, c, d, e, f] = aggregate;
    return decltype(ListOf(a, b, c, d, e, f))();
  } else if constexpr (kCount == 7) {
    const auto& [a, b, c, d, e, f, g] = aggregate;
    return decltype(ListOf(a, b, c, d, e, f, g))();
  } else if constexpr (kCount == 8) {
    const auto& [a, b, c, d, e, f, g, h] = aggregate;
    return decltype(ListOf(a, b, c, d, e, f, g, h))();
  } else if constexpr (kCount == 9) {
    const auto& [a, b, c, d, e, f, g, h, i] = aggregate;
    return decltype(ListOf(a, b, c, d, e, f, g, h, i))();
  } else if constexpr (kCount == 10) {
    const auto& [a, b, c, d, e, f, g, h, i, j] = aggregate;
    return decltype(ListOf(a, b, c, d, e, f, g, h, i, j))();
  } else if constexpr (kCount == 11) {
    const auto& [a, b, c, d, e, f, g, h, i, j, k] = aggregate;
    return decltype(ListOf(a, b, c, d, e, f, g, h, i, j, k))();
  } else {
    const auto& [a, b, c, d, e, f, g, h, i, j, k, l] = aggregate;
    return decltype(ListOf(a, b, c, d, e, f, g, h, i, j, k, l))();
  }
}

}  // namespace aggregate_internal

// The types of the fields, in order, as a TypeList.
template <typename Aggregate>
using FieldTypes =
    decltype(aggregate_internal::FieldTypes(std::declval<const Aggregate&>()));

// How many fields an initializer without designators has to name at least: up
// to the last one that cannot be left out.
template <typename Aggregate>
inline constexpr std::size_t kFewestInitializers =
    aggregate_internal::FewestInitializers<Aggregate>();

}  // namespace escrow::testing

#endif  // ESCROW_TESTS_AGGREGATE_H_

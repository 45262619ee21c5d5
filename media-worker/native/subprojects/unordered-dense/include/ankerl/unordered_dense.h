// The part of ankerl::unordered_dense that mediasoup uses, on the standard library's hash tables.
#pragma once

#include <cstdint>
#include <functional>
#include <type_traits>
#include <unordered_map>
#include <unordered_set>

namespace ankerl::unordered_dense
{
	template<typename T, typename = void>
	struct hash
	{
		using is_avalanching = void;

		std::uint64_t operator()(const T& value) const noexcept
		{
			if constexpr (std::is_integral_v<T> || std::is_enum_v<T>)
			{
				return scatter(static_cast<std::uint64_t>(value));
			}
			else if constexpr (std::is_pointer_v<T>)
			{
				return scatter(reinterpret_cast<std::uintptr_t>(value));
			}
			else
			{
				return std::hash<T>{}(value);
			}
		}

	private:
		// The last step of splitmix64: SSRCs and aligned pointers must not share their low bits.
		static std::uint64_t scatter(std::uint64_t bits) noexcept
		{
			bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9ULL;
			bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebULL;

			return bits ^ (bits >> 31);
		}
	};

	template<typename Key, typename Value, typename Hash = hash<Key>, typename Equal = std::equal_to<Key>>
	using map = std::unordered_map<Key, Value, Hash, Equal>;

	template<typename Key, typename Hash = hash<Key>, typename Equal = std::equal_to<Key>>
	using set = std::unordered_set<Key, Hash, Equal>;
} // namespace ankerl::unordered_dense

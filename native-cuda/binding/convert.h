// JavaScript values to native ones and back. Wrong ones throw CodedError, which `guarded` turns into a coded JS error.
#pragma once
#include <napi.h>

#include <string>
#include <vector>

#include "../common/fault.h"
#include "../common/tensor_view.h"
#include "../device/command.h"

inline Napi::Error coded(Napi::Env env, const char* code, const std::string& message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  return error;
}

/// Wraps a function of the addon: what C++ throws becomes an Error with `code`.
template <Napi::Value (*F)(const Napi::CallbackInfo&)> Napi::Value guarded(const Napi::CallbackInfo& info) {
  try {
    return F(info);
  } catch (const CodedError& error) {
    throw coded(info.Env(), error.code, error.what());
  } catch (const std::bad_alloc&) {
    throw coded(info.Env(), "ERR_MEMORY", "the host has no memory left for a command");
  }
}

inline int64_t integer(Napi::Value value, const char* what) {
  if (!value.IsNumber()) throw CodedError("ERR_NATIVE", format("%s: expected an integer", what));
  return value.As<Napi::Number>().Int64Value();
}

inline size_t size(Napi::Value value, const char* what) {
  const int64_t number = integer(value, what);
  if (number < 0) throw CodedError("ERR_NATIVE", format("%s: expected a size, got %lld", what, static_cast<long long>(number)));
  return static_cast<size_t>(number);
}

/// The array's numbers into `out`; returns how many. Plain node-api calls: this runs for every launch.
template <class T> int numbers(Napi::Value value, T* out, int capacity, const char* what) {
  const napi_env env = value.Env();
  uint32_t length = 0;
  if (napi_get_array_length(env, value, &length) != napi_ok)
    throw CodedError("ERR_NATIVE", format("%s: expected an array of numbers", what));
  if (length > static_cast<uint32_t>(capacity))
    throw CodedError("ERR_NATIVE", format("%s: at most %d, got %u", what, capacity, length));
  for (uint32_t i = 0; i < length; ++i) {
    napi_value element;
    double number = 0;
    if (napi_get_element(env, value, i, &element) != napi_ok || napi_get_value_double(env, element, &number) != napi_ok)
      throw CodedError("ERR_NATIVE", format("%s: element %u is not a number", what, i));
    out[i] = static_cast<T>(number);
  }
  return static_cast<int>(length);
}

struct Bytes {
  const unsigned char* data;
  size_t length;
};

inline Bytes bytes_of(Napi::Value value, const char* what) {
  constexpr size_t element[] = {1, 1, 1, 2, 2, 4, 4, 4, 8, 8, 8, 2};  // by napi_typedarray_type
  napi_typedarray_type type = napi_int8_array;
  size_t length = 0;
  void* data = nullptr;
  if (napi_get_typedarray_info(value.Env(), value, &type, &length, &data, nullptr, nullptr) == napi_ok)
    return {static_cast<const unsigned char*>(data), length * element[type]};
  if (value.IsDataView()) {
    Napi::DataView view = value.As<Napi::DataView>();
    return {static_cast<const unsigned char*>(view.ArrayBuffer().Data()) + view.ByteOffset(), view.ByteLength()};
  }
  throw CodedError("ERR_NATIVE", format("%s: expected a typed array or DataView", what));
}

inline Napi::Array strings(Napi::Env env, const std::vector<std::string>& all) {
  Napi::Array array = Napi::Array::New(env, all.size());
  for (size_t i = 0; i < all.size(); ++i) array.Set(static_cast<uint32_t>(i), all[i]);
  return array;
}

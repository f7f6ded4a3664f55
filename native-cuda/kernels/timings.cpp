#include "timings.h"

#include <algorithm>
#include <map>

#include "arguments.h"

std::atomic<bool> timings_on{false};

static std::map<std::pair<std::string, std::string>, TimingRow>& table() {
  static std::map<std::pair<std::string, std::string>, TimingRow> rows;
  return rows;
}

void timings_switch(bool on) {
  table().clear();
  timings_on = on;
}

std::vector<TimingRow> timings_rows() {
  std::vector<TimingRow> rows;
  for (const auto& [key, row] : table()) rows.push_back(row);
  std::sort(rows.begin(), rows.end(), [](const TimingRow& a, const TimingRow& b) { return a.milliseconds > b.milliseconds; });
  return rows;
}

void timings_add(const char* kernel, const KernelCall& call, double milliseconds, double cpu) {
  std::string operands;
  double bytes = 0;
  for (int i = 0; i < call.tensors; ++i) {
    if (!call[i]) continue;
    bytes += static_cast<double>(call[i].bytes());
    if (i < 4) operands += (operands.empty() ? "" : ", ") + shape_text(call[i]);
  }
  TimingRow& row = table()[{kernel, operands}];
  row.kernel = kernel, row.operands = operands;
  row.calls += 1, row.milliseconds += milliseconds, row.cpu += cpu, row.bytes += bytes;
}

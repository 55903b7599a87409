// Writes rntuple_kinds.root: fields of every kind, in several clusters of many small pages each.
// Made with ROOT 6.40: root -l -b -q 'rntuple_kinds.C("rntuple_kinds.root")'

#include <ROOT/RField.hxx>
#include <ROOT/RNTupleModel.hxx>
#include <ROOT/RNTupleWriteOptions.hxx>
#include <ROOT/RNTupleWriter.hxx>
#include <ROOT/RVec.hxx>
#include <TFile.h>

#include <array>
#include <atomic>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

struct Point {
  float x;
  std::vector<double> ys;
  int n;
};
struct Base {
  int kind;
  float shared;
};
struct Derived : Base {
  double own;
};
struct Left {
  int twin;
};
struct Right {
  float twin;
  int more;
};
struct Both : Left, Right {
  bool own;
};
enum Colour { red, green };

using Type = ROOT::ENTupleColumnType;

class Numbers { // the same on every machine
public:
  std::uint64_t any() {
    fState ^= fState << 13;
    fState ^= fState >> 7;
    fState ^= fState << 17;
    return fState;
  }
  int below(int n) { return any() % n; }
  double real() { return (any() >> 11) * (40. / 9007199254740992.) - 20; }
  template <class V> void fill(V &values, int most) {
    values.resize(below(most));
    for (auto &&value : values)
      value = below(1000) - 500;
  }

private:
  std::uint64_t fState = 88172645463325252ULL;
};

class Writer {
public:
  Writer() : fModel(ROOT::RNTupleModel::Create()) {}

  template <class T, class F> void add(const char *name, F set) {
    auto value = fModel->MakeField<T>(name);
    fSetters.push_back([value, set] { set(*value); });
  }
  template <class T, class F, class C> void addStored(const char *name, C configure, F set) {
    auto field = std::make_unique<ROOT::RField<T>>(name);
    configure(*field);
    fModel->AddField(std::move(field));
    fLater.push_back([this, name, set] {
      auto value = fModel->GetDefaultEntry().GetPtr<T>(name);
      fSetters.push_back([value, set] { set(*value); });
    });
  }
  template <class T> void project(const char *name, std::function<std::string(const std::string &)> source) {
    fModel->AddProjectedField(std::make_unique<ROOT::RField<T>>(name), source);
  }
  void write(const char *name, TFile &file, int nEntries, int nPerCluster, int pageBytes, Numbers &numbers) {
    ROOT::RNTupleWriteOptions options;
    options.SetCompression(505);
    options.SetInitialUnzippedPageSize(pageBytes);
    options.SetMaxUnzippedPageSize(pageBytes);
    fModel->Freeze();
    for (auto &later : fLater)
      later();
    auto writer = ROOT::RNTupleWriter::Append(std::move(fModel), name, file, options);
    std::shared_ptr<std::vector<float>> late;
    for (int entry = 0; entry < nEntries; ++entry) {
      for (auto &set : fSetters)
        set();
      if (late)
        numbers.fill(*late, 5);
      writer->Fill();
      if ((entry + 1) % nPerCluster == 0)
        writer->CommitCluster();
      if (entry == nEntries / 2) {
        auto updater = writer->CreateModelUpdater();
        updater->BeginUpdate();
        late = updater->MakeField<std::vector<float>>("late");
        updater->CommitUpdate();
      }
    }
  }

private:
  std::unique_ptr<ROOT::RNTupleModel> fModel;
  std::vector<std::function<void()>> fSetters;
  std::vector<std::function<void()>> fLater;
};

void rntuple_kinds(const char *path) {
  Numbers r;
  Writer w;
  auto lists = [&](auto &values) { r.fill(values, 5); };
  auto point = [&](Point &p) {
    p.x = r.real();
    r.fill(p.ys, 3);
    p.n = r.below(100);
  };
  auto derived = [&](Derived &d) {
    d.kind = r.below(9);
    d.shared = r.real();
    d.own = r.real();
  };
  auto many = [&](auto each) {
    return [&r, each](auto &values) {
      values.resize(r.below(3));
      for (auto &value : values)
        each(value);
    };
  };
  auto any = [&](auto &x) { x = r.any(); };
  auto real = [&](auto &x) { x = r.real(); };

  w.add<std::int8_t>("i8", any);
  w.add<std::uint8_t>("u8", any);
  w.add<std::int16_t>("i16", any);
  w.add<std::uint16_t>("u16", any);
  w.add<std::int32_t>("i32", any);
  w.add<std::uint32_t>("u32", any);
  w.add<std::int64_t>("i64", any);
  w.add<std::uint64_t>("u64", any);
  w.add<float>("f32", real);
  w.add<double>("f64", real);
  w.add<bool>("flag", [&](bool &x) { x = r.below(3) == 0; });
  w.add<char>("letter", [&](char &x) { x = 'a' + r.below(26); });
  w.add<std::byte>("raw", [&](std::byte &x) { x = std::byte(r.below(256)); });
  w.add<std::string>("text", [&](std::string &x) { x.assign(r.below(6), 'x'); });
  w.add<std::vector<std::string>>("texts", many([&](std::string &x) { x.assign(r.below(3), 'y'); }));
  w.add<std::vector<float>>("floats", lists);
  w.add<ROOT::RVec<int>>("ints", lists);
  w.add<std::vector<bool>>("flags", [&](std::vector<bool> &x) {
    x.resize(r.below(20));
    for (auto &&flag : x)
      flag = r.below(2);
  });
  w.add<std::vector<std::vector<double>>>("nested", many(lists));
  w.add<std::array<float, 3>>("array", [&](auto &x) { for (auto &y : x) y = r.real(); });
  w.add<std::array<std::array<int, 3>, 2>>("matrix", [&](auto &x) { for (auto &y : x) for (auto &z : y) z = r.below(99); });
  w.add<std::vector<std::array<double, 2>>>("arrays", many([&](auto &x) { x = {r.real(), r.real()}; }));
  w.add<std::array<std::vector<int>, 2>>("array_of_lists", [&](auto &x) { for (auto &y : x) r.fill(y, 4); });
  w.add<std::bitset<11>>("bits", [&](auto &x) { x = std::bitset<11>(r.any()); });
  w.add<std::optional<float>>("maybe", [&](auto &x) { x = r.below(2) ? std::optional<float>(r.real()) : std::nullopt; });
  w.add<std::unique_ptr<double>>("pointer", [&](auto &x) { x = r.below(2) ? std::make_unique<double>(r.real()) : nullptr; });
  w.add<std::variant<int, float>>("either", [&](auto &x) { if (r.below(2)) x = r.below(100); else x = float(r.real()); });
  w.add<std::atomic<int>>("atomic", [&](auto &x) { x = r.below(100); });
  w.add<Colour>("colour", [&](Colour &x) { x = r.below(2) ? green : red; });
  w.add<std::pair<int, float>>("pair", [&](auto &x) { x = {r.below(100), float(r.real())}; });
  w.add<std::tuple<int, float, bool>>("tuple", [&](auto &x) { x = {r.below(100), float(r.real()), r.below(2) == 0}; });
  w.add<Point>("point", point);
  w.add<std::vector<Point>>("points", many(point));
  w.add<Derived>("derived", derived);
  w.add<std::vector<Derived>>("deriveds", many(derived));
  w.addStored<float>("half", [](auto &f) { f.SetHalfPrecision(); }, real);
  w.addStored<float>("truncated", [](auto &f) { f.SetTruncated(17); }, real);
  w.addStored<float>("quantized", [](auto &f) { f.SetQuantized(13, {-20., 20.}); }, real);
  auto as = [](Type type) { return [type](auto &f) { f.SetColumnRepresentatives({{type}}); }; };
  w.addStored<std::vector<int>>("by_index32", as(Type::kIndex32), lists);
  w.addStored<std::vector<int>>("by_split_index32", as(Type::kSplitIndex32), lists);
  w.addStored<std::vector<int>>("by_index64", as(Type::kIndex64), lists);
  w.addStored<int>("plain_i32", as(Type::kInt32), any);
  w.addStored<float>("plain_f32", as(Type::kReal32), real);
  w.addStored<double>("f64_as_f32", as(Type::kSplitReal32), real);
  w.addStored<double>(
      "represented_twice",
      [](auto &f) { f.SetColumnRepresentatives({{Type::kSplitReal64}, {Type::kReal32}}); }, real);
  w.project<ROOT::RNTupleCardinality<std::uint32_t>>("n_floats", [](const std::string &) { return "floats"; });
  w.project<std::vector<float>>(
      "points_x", [](const std::string &name) { return name == "points_x" ? "points" : "points._0.x"; });

  Writer twins; // two members of the same name
  twins.add<Both>("both", [&](Both &x) {
    x.Left::twin = r.below(100);
    x.Right::twin = r.real();
    x.own = r.below(2);
  });
  twins.add<std::vector<Point>>("points", many(point));

  TFile file(path, "RECREATE");
  w.write("kinds", file, 100, 40, 64, r);
  twins.write("twins", file, 20, 20, 1024, r);
}

"""ROOT's RDataFrame in compiled C++, one function per query, with a Snapshot as the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.engine.methods.protocol import Task
from benchmarks.engine.write_root import load_root

_CODE = r"""
#pragma cling optimize(3)
#include <ROOT/RDataFrame.hxx>
#include <ROOT/RVec.hxx>

namespace bench {
using ROOT::RVecF;
using ROOT::RVecI;
using Columns = std::vector<std::string>;

struct Names {
   std::string tree, input, output;
   ROOT::RDataFrame open() const { return ROOT::RDataFrame(tree, input); }
};

template <typename Frame>
void save(Frame frame, const Names &names, const Columns &columns)
{
   ROOT::RDF::RSnapshotOptions options;
   options.fOutputFormat = ROOT::RDF::ESnapshotOutputFormat::kTTree;
   options.fCompressionAlgorithm = ROOT::RCompressionSetting::EAlgorithm::kZSTD;
   options.fCompressionLevel = 1;  // codec and level of our Parquet
   frame.Snapshot(names.tree, names.output, columns, options);
}

void take(const Names &names, const Columns &columns)
{
   save(names.open(), names, columns);
}

void leadingMuon(const Names &names, const Columns &columns)
{
   auto passes = [](const RVecF &pt) { return pt.size() >= 2 && pt[0] > 25.f; };
   save(names.open().Filter(passes, {"Muon_pt"}), names, columns);
}

void centralJets(const Names &names, const Columns &columns)
{
   auto isCentral = [](const RVecF &pt, const RVecF &eta) { return RVecI(pt > 30.f && abs(eta) < 2.4f); };
   auto keepFloats = [](const RVecF &values, const RVecI &kept) { return RVecF(values[kept]); };
   auto keepIntegers = [](const RVecI &values, const RVecI &kept) { return RVecI(values[kept]); };
   ROOT::RDF::RNode frame = names.open().Define("isCentral", isCentral, {"Jet_pt", "Jet_eta"});
   for (const auto &column : columns) {
      if (column == "Jet_jetId")
         frame = frame.Redefine(column, keepIntegers, {column, "isCentral"});
      else
         frame = frame.Redefine(column, keepFloats, {column, "isCentral"});
   }
   save(frame, names, columns);
}

void dimuonMass(const Names &names, const Columns &columns)
{
   auto isOpposite = [](const RVecI &charge) { return charge.size() == 2 && charge[0] != charge[1]; };
   auto mass = [](const RVecF &pt, const RVecF &eta, const RVecF &phi) {
      return std::sqrt(2 * pt[0] * pt[1] * (std::cosh(eta[0] - eta[1]) - std::cos(phi[0] - phi[1])));
   };
   auto frame = names.open()
                   .Filter(isOpposite, {"Muon_charge"})
                   .Define("mass", mass, {"Muon_pt", "Muon_eta", "Muon_phi"});
   save(frame, names, columns);
}
}  // namespace bench
"""

_FUNCTIONS = {"Q2": "leadingMuon", "Q3": "centralJets", "Q4": "dimuonMass"}


class RDataFrame:
    """Compiled once per process.

    Args:
        n_threads: threads of ROOT's implicit multi-threading; none for 1.
    """

    def __init__(self, n_threads: int) -> None:
        self._root: Any = load_root()
        self._root.gInterpreter.Declare(_CODE)
        if n_threads > 1:
            self._root.EnableImplicitMT(n_threads)

    def prepare(self, task: Task) -> None:
        """Nothing: the query is compiled already."""

    def answer(self, task: Task, output: Path) -> None:
        function = getattr(self._root.bench, _FUNCTIONS.get(task.query.name, "take"))
        names = self._root.bench.Names(task.tree, str(task.path), str(output))
        function(names, list(task.query.columns))

"""Writes the events with ROOT: a TTree with counter branches, and an RNTuple that is imported from it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engine.events import Branch, batches

_LEAVES = {"float32": "F", "int32": "I", "uint32": "i", "uint64": "l", "bool": "O"}

_CODE = r"""
#pragma cling optimize(3)
#include <cstring>
#include <memory>
#include <string>
#include <vector>
#include <TFile.h>
#include <TTree.h>

// Fills a tree from columns that lie one event after the other in memory.
class BenchTree {
   static constexpr size_t kMostObjects = 512;
   struct Column {
      size_t itemBytes;
      int counter;  // index of the column with the number of objects; -1 for one value per event
      std::vector<char> room;
   };
   std::unique_ptr<TFile> fFile;
   TTree *fTree;
   std::vector<std::unique_ptr<Column>> fColumns;

public:
   BenchTree(const std::string &path, const std::string &tree, int compression)
      : fFile(TFile::Open(path.c_str(), "RECREATE", "", compression)), fTree(new TTree(tree.c_str(), ""))
   {
      fTree->SetAutoFlush(-30000000);  // as CMS does: clusters of 30 MB
   }
   void Add(const std::string &name, const std::string &leaf, size_t itemBytes, int counter)
   {
      fColumns.emplace_back(new Column{itemBytes, counter, std::vector<char>(kMostObjects * itemBytes)});
      fTree->Branch(name.c_str(), fColumns.back()->room.data(), leaf.c_str());
   }
   void Fill(size_t nEvents, const std::vector<size_t> &addresses)
   {
      std::vector<const char *> next;
      for (auto address : addresses)
         next.push_back(reinterpret_cast<const char *>(address));
      for (size_t event = 0; event < nEvents; ++event) {
         for (size_t i = 0; i < fColumns.size(); ++i) {
            auto &column = *fColumns[i];
            UInt_t n = 1;
            if (column.counter >= 0)
               std::memcpy(&n, fColumns[column.counter]->room.data(), sizeof(n));
            if (n > kMostObjects)
               throw std::runtime_error("more objects in an event than there is room for");
            std::memcpy(column.room.data(), next[i], n * column.itemBytes);
            next[i] += n * column.itemBytes;
         }
         fTree->Fill();
      }
   }
   void Close()
   {
      fTree->Write();
      fFile->Close();
   }
};
"""


def load_root() -> Any:
    """The module ROOT, without its start-up text and its graphics."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that its wheel is an early one
        import ROOT  # noqa: PLC0415 (installed beside the peers only)

    ROOT.gROOT.SetBatch(True)
    return ROOT


def write_tree(path: Path, tree: str, n_events: int, compression: int) -> None:
    """Writes a TTree.

    Args:
        compression: ROOT's number for codec and level.
    """
    root = load_root()
    if not hasattr(root, "BenchTree"):
        root.gInterpreter.Declare(_CODE)
    target: Any = None
    for batch in batches(n_events):
        if target is None:
            target = root.BenchTree(str(path), tree, compression)
            _add_branches(target, batch)
        columns = [np.ascontiguousarray(branch.values) for branch in batch]
        addresses = root.std.vector["size_t"]([column.ctypes.data for column in columns])
        target.Fill(len(batch[0].values), addresses)
    target.Close()


def _add_branches(target: Any, batch: list[Branch]) -> None:
    numbers = {branch.name: number for number, branch in enumerate(batch)}
    for branch in batch:
        kind = _LEAVES[branch.values.dtype.name]
        size = f"[{branch.counter}]" if branch.counter else ""
        counter = numbers[branch.counter] if branch.counter else -1
        target.Add(branch.name, f"{branch.name}{size}/{kind}", branch.values.dtype.itemsize, counter)


def write_ntuple(path: Path, name: str, tree: Path, compression: int) -> None:
    """Writes the tree of that name in the file `tree` as an RNTuple, as CMS makes its own of NanoAOD."""
    root = load_root()
    path.unlink(missing_ok=True)
    importer = root.Experimental.RNTupleImporter.Create(str(tree), name, str(path))
    options = importer.GetWriteOptions()
    options.SetCompression(compression)
    importer.SetWriteOptions(options)
    importer.SetIsQuiet(True)
    importer.Import()

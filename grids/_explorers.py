"""Which figures `dora grid` shows for each experiment."""

import typing as tp

import treetable as tt
from dora import Explorer

Table = dict[str, tp.Any]
Metrics = dict[str, tp.Any]


class LMExplorer(Explorer):
    """Follows a language model: its loss, its best loss, and what evaluation found."""

    def get_grid_metrics(self) -> list:
        return [
            tt.group(
                "train",
                [
                    tt.leaf("epoch"),
                    tt.leaf("lr", ".2E"),
                    tt.leaf("grad_norm", ".2f"),
                    tt.leaf("ce", ".3f"),
                    tt.leaf("ppl", ".1f"),
                ],
                align=">",
            ),
            tt.group(
                "valid",
                [tt.leaf("ce", ".3f"), tt.leaf("ppl", ".1f"), tt.leaf("best_ce", ".3f")],
                align=">",
            ),
            tt.group(
                "evaluate",
                [
                    tt.leaf("ce", ".3f"),
                    tt.leaf("fad", ".3f"),
                    tt.leaf("kld", ".3f"),
                    tt.leaf("text_consistency", ".3f"),
                    tt.leaf("chroma_cosine", ".3f"),
                ],
                align=">",
            ),
        ]

    def process_history(self, history: list[dict[str, Metrics]]) -> Table:
        """The latest figures of every stage, and the best loss so far.

        Args:
            history: One dictionary per epoch, stage -> figures.
        """
        table: Table = {"train": {"epoch": len(history)}, "valid": {}, "evaluate": {}}
        for epoch in history:
            for stage, metrics in epoch.items():
                table.setdefault(stage, {}).update(metrics)
        losses = [epoch["valid"]["ce"] for epoch in history if "ce" in epoch.get("valid", {})]
        if losses:
            table["valid"]["best_ce"] = min(losses)
        return table

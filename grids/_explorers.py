"""Explorers: metrics that `dora grid` shows for each experiment."""

import typing as tp

import treetable as tt

from audiocraft.launch.explorer import KeepJobsExplorer

Table = dict[str, tp.Any]
Metrics = dict[str, tp.Any]

# Objective metrics of the paper: our name, the paper's name, and which values are better. The last
# two compare the generated music G with the style clip C.
PAPER_METRICS = [
    tt.leaf("ce", ".3f"),
    tt.leaf("fad", ".3f", display="FAD"),  # lower
    tt.leaf("kld", ".3f", display="KL"),  # lower
    tt.leaf("text_consistency", ".3f", display="CLAP"),  # higher
    tt.leaf("chroma_cosine", ".3f", display="chroma"),  # higher
    tt.leaf("nn_common", ".3f", display="NN"),  # nearest neighbours in common: higher
    tt.leaf("nn_copied", ".3f", display="G=NN"),  # G is C's nearest neighbour: high is copying
]


class LMExplorer(KeepJobsExplorer):
    """Shows a language model: its loss, its best loss, and the metrics of evaluation."""

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
            tt.group("evaluate", PAPER_METRICS, align=">"),
        ]

    def process_history(self, history: list[dict[str, Metrics]]) -> Table:
        """Return the latest metrics of each stage and the best loss.

        Args:
            history: One dictionary per epoch, stage -> metrics.
        """
        table: Table = {"train": {"epoch": len(history)}, "valid": {}, "evaluate": {}}
        for epoch in history:
            for stage, metrics in epoch.items():
                table.setdefault(stage, {}).update(metrics)
        losses = [epoch["valid"]["ce"] for epoch in history if "ce" in epoch.get("valid", {})]
        if losses:
            table["valid"]["best_ce"] = min(losses)
        return table

"""Which figures `dora grid` shows for each experiment."""

import typing as tp

import treetable as tt

from audiocraft.launch.explorer import KeepJobsExplorer

Table = dict[str, tp.Any]
Metrics = dict[str, tp.Any]

# The paper's objective measures, as evaluation calls them and as the paper does. What is better
# stands behind; the last two compare the music G with the clip C that it was conditioned on.
PAPER = [
    tt.leaf("ce", ".3f"),
    tt.leaf("fad", ".3f", display="FAD"),  # lower
    tt.leaf("kld", ".3f", display="KL"),  # lower
    tt.leaf("text_consistency", ".3f", display="CLAP"),  # higher
    tt.leaf("chroma_cosine", ".3f", display="chroma"),  # higher
    tt.leaf("nn_common", ".3f", display="NN"),  # nearest neighbours in common: higher
    tt.leaf("nn_copied", ".3f", display="G=NN"),  # G is C's nearest neighbour: high is copying
]


class LMExplorer(KeepJobsExplorer):
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
            tt.group("evaluate", PAPER, align=">"),
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

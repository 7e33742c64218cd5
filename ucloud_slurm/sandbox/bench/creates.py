"""Single creates: one after the other, eight clients at once, a hundred clients at once."""

from ucloud_slurm.sandbox.bench.rows import row
from ucloud_slurm.sandbox.bench.stage import LOOPS, Stage
from ucloud_slurm.sandbox.errors import SandboxError

CROWD = 100


def creates(stage: Stage) -> None:
    """Measures them beside bare sbatch, block by block in turn."""
    with stage.scene("creates") as scene:
        sizes, timer, http = stage.sizes, scene.timer(LOOPS), scene.http()
        argv, env, script = scene.sbatch()
        http.post(scene.bodies(sizes.block))  # the first ones fill caches
        timer.run(argv, env, stdin=script, times=sizes.block)
        ours: list[float] = []
        bare: list[float] = []
        spent = 0.0
        for _ in range(sizes.creates // sizes.block):
            answered = http.post(scene.bodies(sizes.block))
            ours += answered.took
            spent += answered.spent
            bare += timer.run(argv, env, stdin=script, times=sizes.block).took
        stage.add(row("create", "create over HTTP", "ms", ours, bare, "sbatch"))
        stage.add(row("create-client", "of which the client itself", "ms", [spent * 1000 / len(ours)]))

        rates: list[float] = []
        bare_rates: list[float] = []
        number = LOOPS * sizes.at_once
        for _ in range(sizes.rounds):
            rates.append(number / http.post(scene.bodies(number), LOOPS).seconds)
            bare_rates.append(number / timer.run(argv, env, stdin=script, times=sizes.at_once, loops=LOOPS).seconds)
        name, beside = f"{LOOPS} clients creating", f"{LOOPS} loops of sbatch"
        stage.add(row("create-8", name, "/s", rates, bare_rates, beside))

        crowd: list[float] = []
        wrong: list[str] = []
        for _ in range(sizes.rounds):
            answered = http.post(scene.bodies(CROWD), CROWD, strict=False)
            crowd += answered.took
            wrong += answered.wrong
        stage.add(row("create-100", f"{CROWD} clients creating at once, each once", "ms", crowd))
        stage.add(row("create-100-largest", "of which the slowest answer", "ms", [max(crowd)]))
        stage.add(row("create-100-errors", "of which not accepted", "jobs", [len(wrong)]))
        if wrong:
            raise SandboxError(f"{len(wrong)} creates of a crowd were not accepted; the first: {wrong[0]}")

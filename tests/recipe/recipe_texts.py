"""A valid recipe, and mistakes in it: (old text, new text, line of the problem, parts of its message)."""

from __future__ import annotations

GOOD = """\
name: small
seed: 7
data:
  source: cifar10
  labeled: 100
  templates: ["a photo of a {}."]
  views: {shift: 0.1, flip: true}
trainer: {accelerator: cpu, devices: 1}
stages:
  - id: teacher
    kind: teacher
    teacher: {source: timm, model: resnet50, pretrained: true}
  - id: distilled
    kind: distill
    from: teacher
    student: resnet18
    epochs: 3
    lr: 1e-1
  - id: pruned
    kind: prune
    from: distilled
    target_macs: 0.5
    repair: {epochs: 2}
  - id: int8
    kind: quantize
    from: pruned
  - id: files
    kind: export
    from: [distilled, int8]
worth:
  references: [teacher]
  trend: epoch-fp32
"""

BAD: list[tuple[str, str, int, tuple[str, ...]]] = [
    # measuring
    ("seed: 7", "measure: {energy: on}", 2, ("measure.energy: must be 'auto' or 'off', not 'on'",)),
    ("seed: 7", "measure: {watts: 0}", 2, ("measure.watts: must be greater than 0, not 0",)),
    ("seed: 7", "measure: {watts: much}", 2, ("measure.watts: must be a number, not 'much'",)),
    ("seed: 7", "measure: {watt: 15}", 2, ("measure.watt: unknown key", "did you mean 'watts'?")),
    ("seed: 7", "measure: {carbon_g_per_kwh: -1}", 2, ("measure.carbon_g_per_kwh: must be greater than 0",)),
    (
        "seed: 7",
        "measure: {energy: off, carbon_g_per_kwh: 300}",
        2,
        ("measure.carbon_g_per_kwh: carbon needs energy", "set `watts` or `energy: auto`"),
    ),
    ("seed: 7", "trainer: {strategy: ddp_spawn}", 2, ("trainer.strategy: ddp_spawn is not supported", "use ddp")),
    # fractions, where a user may mean a point or an epoch
    ("trend: epoch-fp32", "tolerance: 1", 32, ("must be a fraction", "not 1; write 0.01 for one point")),
    ("kind: quantize", "kind: quantize\n    keep_accuracy: 1", 26, ("keep_accuracy", "write 0.01 for one point")),
    ("kind: export", "kind: export\n    auto_loss: 1.0", 29, ("auto_loss", "write 0.01 for one point")),
    ("epochs: 3", "warmup: 1", 17, ("warmup", "a fraction of the steps, such as 0.05, not epochs")),
    ("repair: {epochs: 2}", "repair: {warmup: -1}", 23, ("repair.warmup: must be a fraction",)),
    # batches of one image, and files that Triton cannot run
    ("epochs: 3", "batch: 1", 17, ("stages.distilled.batch: resnet18 has batch norm", "set `batch` to 2 or more")),
    ("repair: {epochs: 2}", "repair: {batch: 1}", 23, ("stages.pruned.repair: resnet18 has batch norm",)),
    (
        "accelerator: cpu, devices: 1}",
        "accelerator: cpu, devices: 64, num_nodes: 2}",
        13,
        ("stages.distilled.batch: resnet18 has batch norm, which needs two or more images on each of 128 devices",),
    ),
    (
        "from: [distilled, int8]",
        "from: [distilled]\n    runtimes: [executorch]\n    triton: true",
        31,
        ("stages.files.triton: Triton runs onnxruntime or openvino files; add one to `runtimes`, or remove `triton`",),
    ),
    # devices
    *(
        ("  trend: epoch-fp32", f"  trend: epoch-fp32\n  deployments: {profiles}", 33, words)
        for profiles, words in [
            ("[cloud-cup]", ("unknown deployment 'cloud-cup'", "did you mean 'cloud-cpu'?")),
            ("cloud-cpu", ("worth.deployments: must be a list, not 'cloud-cpu'",)),
            ("[cloud-cpu, cloud-cpu]", ("worth.deployments.1.name: duplicate deployment 'cloud-cpu'",)),
            (
                "[{name: a, runtime: ncnn}]",
                ("worth.deployments.0.budgets: a has no budget; set `latency_ms`",),
            ),
            (
                "[{name: a, budgets: {size_mb: 5}}]",
                ("worth.deployments.0.runtime: is missing; set the runtime used on a, or `toolchain`",),
            ),
            (
                "[{name: a, toolchain: by hand, budgets: {size_mb: 5}}]",
                ("worth.deployments.0.runtime: is missing; set it, or remove `processor` and `size_mb`",),
            ),
            ("[{name: a, runtime: nccn}]", ("worth.deployments.0.runtime: must be 'onnx", "did you mean 'ncnn'?")),
            ("[{name: a, budgets: {size: 5}}]", ("budgets.size: unknown key", "did you mean 'size_mb'?")),
            ("[{name: a, budgets: {size_mb: 0}}]", ("worth.deployments.0.budgets.size_mb: must be greater than 0",)),
            ("[{name: a, processor: ''}]", ("worth.deployments.0.processor: must be a string of length 1 or more",)),
        ]
    ),
    # what others published
    (
        "    kind: quantize",
        "    kind: quantize\n    published: {source: x}",
        26,
        ("stages.int8.published: states no figure; set `top1` or `inference`",),
    ),
    # files that run on other machines
    (
        "    kind: quantize",
        "    kind: quantize\n    method: nncf\n    target: portable",
        27,
        ("stages.int8.target: `method: nncf` supports x86 only; for portable, set `method: torchao`",),
    ),
    (
        "    from: [distilled, int8]",
        "    from: [distilled, int8]\n    runtimes: [tensorrt]",
        30,
        ("files.runtimes: tensorrt supports quantized networks of `target: portable` only; set it in int8",),
    ),
    (
        "target_macs: 0.5",
        "target_latency: {share: 0.5, runtime: coreml}",
        22,
        ("pruned.target_latency: coreml files run in an app on iOS 17", "not here"),
    ),
    # keys
    ("seed: 7", "sede: 7", 2, ("sede: unknown key", "did you mean 'seed'?", "allowed:")),
    ("    epochs: 3", "    epocs: 3", 17, ("stages.distilled.epocs", "did you mean 'epochs'?")),
    ("shift: 0.1", "shfit: 0.1", 7, ("data.views.shfit", "did you mean 'shift'?")),
    ("accelerator: cpu", "gpus: 2", 8, ("trainer.gpus: unknown key", "allowed: accelerator, benchmark")),
    ("    from: teacher", "    from_: teacher", 15, ("stages.distilled.from_", "did you mean 'from'?")),
    ("    from: teacher\n", "", 13, ("stages.distilled.from: is missing: id of the teacher",)),
    ("    target_macs: 0.5\n", "", 19, ("stages.pruned.target_macs: no target", "fraction of MACs to keep")),
    ("    student: resnet18\n", "", 13, ("stages.distilled.student: is missing",)),
    ("repair: {epochs: 2}", "repair: {epoch: 2}", 23, ("stages.pruned.repair.epoch", "did you mean 'epochs'?")),
    ("seed: 7", "name: again", 2, ("duplicate key 'name', first used at bad.yaml:1",)),
    ("    epochs: 3", "    epochs: 3\n    epochs: 4", 18, ("duplicate key 'epochs'",)),
    # values
    ("seed: 7", "seed: seven", 2, ("seed: must be an integer, not 'seven'",)),
    ("seed: 7", "seed: -1", 2, ("seed: must be at least 0, not -1",)),
    ("seed: 7", "seed: 9999999999999", 2, ("seed: must be less than 2147483648",)),
    ("seed: 7", "seed: true", 2, ("seed: must be an integer, not true",)),
    ("seed: 7", "seed: 1.5", 2, ("seed: must be an integer, not 1.5",)),
    ("seed: 7", 'seed: "7"', 2, ("seed: must be an integer, not '7'",)),
    ("seed: 7", "seed:", 2, ("must be an integer, not nothing", "remove the key to use its default")),
    ("name: small", "name: 12", 1, ("name: must be a string, not 12; put quotes around it",)),
    ("name: small", "name: ../up", 1, ("name: must be 1 to 64 letters", "not '../up'")),
    ("name: small", "name: store", 1, ("name: 'store' is reserved",)),
    ("lr: 1e-1", "lr: 0", 18, ("stages.distilled.lr: must be greater than 0, not 0",)),
    ("lr: 1e-1", "lr: .nan", 18, ("stages.distilled.lr: must be a finite number, not nan",)),
    ("lr: 1e-1", "lr: -.inf", 18, ("stages.distilled.lr: must be a finite number",)),
    ("lr: 1e-1", "optimizer: sdg", 18, ("must be 'sgd', 'adam' or 'adamw', not 'sdg'; did you mean 'sgd'?",)),
    ("flip: true", "flip: yes", 7, ("data.views.flip: must be true or false, not 'yes'",)),
    ("{shift: 0.1, flip: true}", "standrad", 7, ("data.views: unknown policy of views", "did you mean 'standard'?")),
    ("{shift: 0.1, flip: true}", "{use: strnog}", 7, ("data.views: unknown policy", "did you mean 'strong'?")),
    ("flip: true", "crop: [1, 0.5]", 7, ("data.views.crop: must be two numbers, the smaller first, not [1.0, 0.5]",)),
    ("flip: true", "magnitude: 3", 7, ("data.views: `magnitude` has no effect without `augment: randaugment`",)),
    ("target_macs: 0.5", "target_macs: 1", 22, ("stages.pruned.target_macs: must be less than 1, not 1",)),
    ("labeled: 100", "labeled: [1]", 5, ("data.labeled: must be an integer, not a list",)),
    ("devices: 1", "devices: [a, 1]", 8, ("must be an integer, a list of integers or 'auto', not a list",)),
    ('["a photo of a {}."]', '["a {}.", "a photo"]', 6, ("data.templates.1: must hold {} once",)),
    ('["a photo of a {}."]', '["{}, {}"]', 6, ("data.templates.0: must hold {} once",)),
    ('["a photo of a {}."]', '["a {} {0}"]', 6, ("no other braces",)),
    ('["a photo of a {}."]', "[]", 6, ("data.templates: number of entries must be at least 1, not 0",)),
    ('["a photo of a {}."]', '["a {}."]\n  prompts: {no: 5}', 7, ("data.prompts.no: must be a string, not 5",)),
    ("trainer: {accelerator: cpu, devices: 1}", "trainer: cpu", 8, ("trainer: must be a section of keys and values",)),
    ("references: [teacher]", "references: teacher", 31, ("worth.references: must be a list, not 'teacher'",)),
    ("student: resnet18", "student: {model: x, mean: [1, 2]}", 16, ("stages.distilled.student.mean",)),
    # names of configs
    ("trend: epoch-fp32", "trend: epoch-fp23", 32, ("worth.trend: unknown trend", "did you mean 'epoch-fp32'?")),
    ("student: resnet18", "student: timmm/resnet18", 16, ("unknown library 'timmm'; did you mean 'timm'?",)),
    (
        "student: resnet18",
        "student: {use: resnet19}",
        16,
        ("unknown student 'resnet19'; did you mean 'resnet18'?",),
    ),
    ("student: resnet18", "student: {use: [resnet18]}", 16, ("student: `use` must be a name, not a list",)),
    ("{source: timm, model: resnet50, pretrained: true}", "embeded", 12, ("did you mean 'embedded'?",)),
    ("{source: timm, model: resnet50, pretrained: true}", "../x", 12, ("unknown teacher '../x'",)),
    ("source: cifar10", "source: cifar100", 4, ("data.source: unknown source 'cifar100'", "did you mean 'cifar10'?")),
    ("  source: cifar10\n", "", 3, ("data.source: is missing; allowed: cifar10-sample", "or use:")),
    ("source: timm", "source: tim", 12, ("stages.teacher.teacher.source: unknown source 'tim'; did you mean 'timm'?",)),
    # kinds and the graph
    ("kind: distill", "kind: distil", 14, ("stages.distilled.kind: unknown kind 'distil'; did you mean 'distill'?",)),
    (
        "kind: prune",
        "kind: wombat",
        20,
        ("allowed: teacher, model, train, distill, prune, shrink, match, sparsify, quantize or export",),
    ),
    ("    kind: prune\n", "", 19, ("stages.pruned.kind: is missing; allowed: teacher",)),
    ("kind: prune", "kind: [prune]", 20, ("stages.pruned.kind",)),
    ("id: pruned", "id: a/../b", 19, ("must be 1 to 64 letters, digits",)),
    ("id: pruned", "id: distilled", 19, ("stages.distilled: duplicate id, first used at bad.yaml:13",)),
    ("from: distilled\n", "from: distiled\n", 21, ("unknown stage 'distiled'; did you mean 'distilled'?",)),
    ("from: distilled\n", "from: pruned\n", 21, ("circular dependency: pruned -> pruned",)),
    (
        "from: distilled\n",
        "from: int8\n",
        21,
        ("'int8' is of kind quantize; prune must start from teacher, model, train, distill",),
    ),
    ("from: teacher", "from: pruned", 15, ("'pruned' is of kind prune; distill must start from teacher, model or",)),
    ("from: pruned", "from: int8", 26, ("'int8' is of kind quantize; quantize must start from",)),
    (
        "    from: pruned\n  - id: files\n    kind: export\n    from: [distilled, int8]",
        "    from: pruned\n    keep: [fc]\n  - id: files\n    kind: export\n    from: [distilled, int8]\n"
        "    runtimes: [onnxruntime, ncnn]",
        31,
        (
            "stages.files.runtimes: INT8 for ncnn (ncnn) does not support `keep` of int8; remove it, or move int8 to "
            "another export stage",
        ),
    ),
    (
        "from: [distilled, int8]",
        "from: [distilled, int8]\n    precision: int8",
        30,
        ("int8 needs calibration: add {id: distilled-int8, kind: quantize, from: distilled}, and export it without",),
    ),
    (
        "from: [distilled, int8]",
        "from: [distilled]\n    precision: [fp32, fp16, bf16]\n    runtimes: [onnxruntime, openvino, executorch]",
        30,
        ("stages.files.precision: executorch files are fp32, not fp16 or bf16; use another stage",),
    ),
    (
        "from: [distilled, int8]",
        "from: [int8]\n    precision: fp16",
        30,
        ("stages.files.precision: int8 is quantized and not exported in another; remove it",),
    ),
    (
        "from: [distilled, int8]",
        "from: [distilled, int8]\n    precision: fp8",
        30,
        ("stages.files.precision", "must be 'fp32', 'fp16', 'bf16' or 'int8', not 'fp8'"),
    ),
    (
        "from: [distilled, int8]",
        "from: [distilled, int8]\n    opset: 20\n    ir_version: 8",
        31,
        ("stages.files.ir_version: opset 20 needs 9; set it, or `opset: 18`",),
    ),
    (
        "from: [distilled, int8]",
        "from: [distilled]\n    runtimes: [ncnn]\n    ir_version: 9",
        31,
        ("stages.files.ir_version: none of these runtimes is given an ONNX file; remove it",),
    ),
    (
        "from: [distilled, int8]",
        "from: [distilled, int8]\n    layer_times: true",
        30,
        ("stages.files.layer_times: is for inductor, which is none of these runtimes; remove it, or add inductor",),
    ),
    ("[distilled, int8]", "[distilled, files]", 29, ("'files' is of kind export",)),
    ("[distilled, int8]", "[int8, int8]", 29, ("stages.files.from: 'int8' is listed twice",)),
    ("[distilled, int8]", "[]", 29, ("stages.files.from: number of entries must be at least 1",)),
    ("references: [teacher]", "references: [techer]", 31, ("unknown stage 'techer'; did you mean 'teacher'?",)),
    ("references: [teacher]", "references: [files]", 31, ("'files' is an export stage; name a variant",)),
    # keys that exclude or need each other
    # names of models
    ("model: resnet50,", "model: resnet81,", 12, ("timm has no model 'resnet81'; did you mean 'resnet18'",)),
    ("student: resnet18", "student: resnet81", 16, ("timm has no model 'resnet81'; did you mean 'resnet18'",)),
    ("student: resnet18", "student: {model: resnet18.a9_in1k, pretrained: true}", 16, ("did you mean 'a3_in1k'",)),
    (
        "student: resnet18",
        "student: resnet18.a1_in1k",
        16,
        ("weights 'a1_in1k', which are not loaded; set `pretrained",),
    ),
    (
        "student: resnet18",
        "student: {model: local-dir:none}",
        16,
        ("none is not a model folder: config.json not found",),
    ),
    (
        "student: resnet18",
        "student: {model: resnet18, options: {zero_init: false}}",
        16,
        ("timm's resnet18 takes no 'zero_init'; did you mean 'zero_init_last'?",),
    ),
    ("model: resnet50, pretrained: true", "model: resnet50", 12, ("no weights; set `checkpoint`",)),
    ("source: timm, model: resnet50, pretrained: true", "source: open_clip, model: RN50", 12, ("no weights",)),
    ("pretrained: true", "pretrained: true, checkpoint: x", 12, ("`pretrained` and `checkpoint` exclude each other",)),
    (
        "    epochs: 3",
        "    losses: {kd: 0, ce: 0}",
        17,
        ("no loss trains the classifier; set a weight for ce, dist, dkd or kd",),
    ),
    ("    epochs: 3", "    losses: {}", 17, ("no loss trains the classifier",)),
    ("    epochs: 3", "    losses: {kdd: 1}", 17, ("losses.kdd: unknown key", "did you mean 'kd'?")),
    ("    epochs: 3", "    losses: {kd: -1}", 17, ("losses.kd: must be at least 0, not -1",)),
    ("    epochs: 3", "    losses: {kd: one}", 17, ("losses.kd: must be a section of keys and values, not 'one'",)),
    ("    epochs: 3", "    losses: {kd: {temprature: 2}}", 17, ("did you mean 'temperature'?",)),
    ("    epochs: 3", "    losses: {kd: {temperature: -4}}", 17, ("kd.temperature: must be greater than 0, not -4",)),
    ("    epochs: 3", "    losses: {kd: {weight: {start: 1}}}", 17, ("losses.kd.weight.end: is missing",)),
    ("    epochs: 3", "    losses: {kd: 1, crd: 1}\n    teacher: live", 17, ("`crd`", "set `teacher: stored`")),
    (
        "    epochs: 3",
        "    losses: {ce: 1, hint: {student_layer: a, teacher_layer: b}}",
        17,
        ("set `teacher: live`",),
    ),
    ("    epochs: 3", "    teacher: alive", 17, ("must be 'stored' or 'live', not 'alive'", "did you mean 'live'?")),
    ("    epochs: 3", "    teacher: live\n    verify: 3", 18, ("`verify` checks cached embeddings",)),
    ("    epochs: 3", "    select_on: test", 17, ("set `allow: [test-selection]` at the top",)),
    ("    epochs: 3", "    ema: 1", 17, ("stages.distilled.ema: must be less than 1, not 1",)),
    ("student: resnet18", "student: {model: x, options: {num_classes: 3}}", 16, ("must not set num_classes",)),
    ("student: resnet18", "student: {model: x, options: {a: [1]}}", 16, ("stages.distilled.student.options.a",)),
    # YAML
    ("seed: 7", "seed: [7", 3, ("is not valid YAML",)),
    ("seed: 7", "\tseed: 7", 2, ("tab used for indentation",)),
    ("seed: 7", "seed: !!python/object/apply:os.system [id]", 2, ("YAML tag tag:yaml.org,2002:python/object",)),
    ("seed: 7", "seed: &x [*x]", 2, ("alias *x refers to a value that contains it",)),
    ("seed: 7", "seed: *nowhere", 2, ("undefined alias *nowhere",)),
    ("seed: 7", "<<: {seed: 7}", 2, ("merge keys (<<) are not supported",)),
    ("seed: 7", "? [a, b]\n: 1", 2, ("a key must be a plain string",)),
    ("seed: 7", "seed: " + "[" * 40 + "]" * 40, 2, ("nested deeper than 32 levels",)),
    ("seed: 7", "seed: 7\n---\nseed: 8", 3, ("second YAML document",)),
    ("seed: 7", "seed: 7\x00", 2, ("not valid YAML",)),
]

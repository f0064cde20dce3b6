import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import {
  bodyOf,
  changesOf,
  cloneCommand,
  curlCommand,
  frameworkOf,
  isModel,
  nearestModel,
  parsed,
  quoted,
  stokerCommand,
  typedOf,
} from "../src/newjob.js";

const FIELDS = [
  { name: "epochs", type: "integer" },
  { name: "learning_rate", type: "number" },
];
const OPTIONS = [
  { name: "optimizer", type: "string" },
  { name: "scale", type: "array" },
  { name: "cache", type: ["boolean", "string"] },
];
const TYPED = {
  dataset: " cats (1) ",
  framework: "timm",
  model: "resnet18",
  name: "it's",
  fields: [
    { name: "epochs", text: "12" },
    { name: "learning_rate", text: " " },
  ],
  hyperparameters: [
    { name: "optimizer", text: "AdamW" },
    { name: "scale", text: "[0.7, 1]" },
    { name: "", text: "" },
  ],
};
const BODY = {
  framework: "timm",
  model_name: "resnet18",
  dataset_id: "cats (1)",
  name: "it's",
  epochs: 12,
  hyperparameters: { optimizer: "AdamW", scale: [0.7, 1] },
};

test("a request has only what is typed, with the types that the trainer declares", () => {
  assert.deepEqual(bodyOf(TYPED, FIELDS, OPTIONS), BODY);
});

test("a text is a value of one of the declared types, or the message says which they are", () => {
  assert.equal(parsed({ name: "cache", type: ["boolean", "string"] }, "true"), true);
  assert.equal(parsed({ name: "cache", type: ["boolean", "string"] }, "ram"), "ram");
  assert.equal(parsed({ name: "opt", type: "string" }, "5"), "5");
  assert.deepEqual(parsed({ name: "unknown", type: [] }, "[1]"), [1]);
  assert.throws(() => parsed({ name: "epochs", type: "integer" }, "1.5"), /epochs: use a whole number/);
  assert.throws(() => parsed({ name: "scale", type: "array" }, "0.7"), /scale: use a list/);
});

test("a job that is trained again fills the form with its own settings", () => {
  const spec = { framework: "timm", epochs: 12, priority: "high", hyperparameters: { scale: [0.7, 1] } };
  const job = { dataset_id: "cats", framework: "timm", model_name: "resnet18", name: null, spec };
  assert.deepEqual(typedOf(job, FIELDS), {
    dataset: "cats",
    framework: "timm",
    model: "resnet18",
    name: "",
    fields: [{ name: "epochs", text: "12" }],
    hyperparameters: [{ name: "scale", text: "[0.7,1]" }],
  });
});

test("a clone is sent what differs, and null for what was taken out; what the form does not show stays", () => {
  const spec = {
    ...{ framework: "timm", model_name: "resnet18", dataset_id: "cats", dataset_etag: "e1" },
    ...{ epochs: 12, batch_size: 8, priority: "high", hyperparameters: { scale: [0.7, 1], mixup: 0.1, drop: 0.2 } },
  };
  const job = { ...spec, id: "j1", name: "one", spec };
  const typed = typedOf(job, FIELDS);
  const same = bodyOf(typed, FIELDS, []);
  assert.deepEqual(changesOf(same, job, FIELDS), { dataset_etag: null });
  const changed = {
    ...typed,
    name: "",
    fields: [{ name: "epochs", text: "20" }],
    hyperparameters: [
      { name: "scale", text: "[0.7,1]" },
      { name: "mixup", text: "0.3" },
    ],
  };
  const changes = changesOf(bodyOf(changed, FIELDS, []), job, FIELDS);
  assert.deepEqual(changes, {
    ...{ epochs: 20, name: null, dataset_etag: null },
    hyperparameters: { mixup: 0.3, drop: null },
  });
  assert.equal(
    cloneCommand("j1", changes).replace(/\s+\\?\s*/g, " "),
    "stoker clone j1 --set epochs=20 --set mixup=0.3 --unset name --unset dataset_etag --unset drop",
  );
  assert.equal(
    cloneCommand("j1", { epochs: 20, hyperparameters: { mixup: 0.3 } }).replace(/\s+\\?\s*/g, " "),
    "stoker clone j1 --set epochs=20 --set mixup=0.3",
  );
});

test("the commands mean the same in a shell", () => {
  const words = (/** @type {string} */ command) =>
    execFileSync("sh", ["-c", `printf '%s\\n' ${command}`], { encoding: "utf8" })
      .trimEnd()
      .split("\n");
  assert.deepEqual(words(stokerCommand(BODY)).slice(2), [
    ...["cats (1)", "--model", "resnet18", "--framework", "timm", "--name", "it's"],
    ...["--set", "epochs=12", "--set", "optimizer=AdamW", "--set", "scale=[0.7,1]"],
  ]);
  assert.deepEqual(JSON.parse(words(curlCommand(BODY, "http://127.0.0.1:8080")).at(-1) ?? ""), BODY);
  assert.equal(quoted("$(rm -rf /)"), "'$(rm -rf /)'");
});

test("the nearest model is offered for one that the trainer does not have", () => {
  const models = ["yolo11n.pt", "yolo11n-seg.pt", "yolov8*.pt", "resnet[15]0", "a.b"];
  assert.equal(nearestModel("yolo11n", models), "yolo11n.pt");
  assert.equal(nearestModel("Yolo11n.PT", models), "yolo11n.pt");
  assert.equal(nearestModel("yolov8-mine.pt", models), ""); // one of a pattern
  assert.equal(nearestModel("something else", models), "");
  assert.equal(nearestModel("", models), "");
  assert.deepEqual(
    ["resnet10", "resnet20", "axb", "a.b"].map((name) => isModel(name, models)),
    [true, false, false, true],
  );
});

test("the framework that has a model is the one that the command takes", () => {
  const frameworks = [
    { framework: "any", models: ["*"] },
    { framework: "timm", models: ["resnet18"] },
    { framework: "ultralytics", models: ["*.pt"] },
  ];
  const models = ["resnet18", " yolo11n.pt ", "mine"];
  assert.deepEqual(
    models.map((model) => frameworkOf(model, frameworks)),
    ["timm", "ultralytics", "any"],
  );
  assert.equal(frameworkOf("mine", [...frameworks, { framework: "all", models: ["*"] }]), "");
  assert.equal(frameworkOf("", frameworks.slice(1)), "");
});

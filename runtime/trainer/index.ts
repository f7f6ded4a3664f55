export { type AnswerItem, type AnswerState, advance, allowedNext, answerStart, bestAllowed, binCentre, canonicalOrder, firstTextId, isAllowed, locationBin, parseAnswer, renderAnswer } from "./answer-grammar.ts";
export { type AskedAnswer, type GenerateOptions, type GeneratedAnswer, answer, generateAnswers } from "./answer.ts";
export { type EvaluateOptions, type EvaluationResult, evaluate, evaluateOpen, evaluationEvent, heldOut } from "./evaluate.ts";
export { type RunFolder, createRunFolder, openRunFolder } from "./run-folder.ts";
export { type StepInput, type StepResult, trainStep } from "./step.ts";
export { type RunResult, type TrainOptions, train } from "./train.ts";
export { type OpenOptions, type TrainedModel, openTrained } from "./trained-model.ts";

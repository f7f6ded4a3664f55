export { type AnswerItem, type AnswerState, advance, allowedNext, answerStart, bestAllowed, binCentre, canonicalOrder, isAllowed, isLocationId, isTextId, locationBin, parseAnswer, renderAnswer, textIds } from "./answer-grammar.ts";
export { type AnswerToken, type AskedAnswer, type GeneratedAnswer, type StreamOptions, answer, chooseAnswer, generateAnswers, streamAnswers } from "./answer.ts";
export { type GenerateOptions, type GenerationMode, generationModes, generationPlan } from "./generation-options.ts";
export { type AnswerScore, type ScoreOptions, scoreAnswers } from "./score-answers.ts";
export { type EvaluateOptions, type EvaluationResult, evaluate, evaluateOpen, evaluationEvent, heldOut } from "./evaluate.ts";
export { type RunFolder, createRunFolder, openRunFolder } from "./run-folder.ts";
export { type StepInput, type StepResult, trainStep } from "./step.ts";
export { type RunResult, type TrainOptions, train } from "./train.ts";
export { type OpenOptions, type TrainedModel, openTrained } from "./trained-model.ts";

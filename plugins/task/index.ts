/** Which questions belong to a page, and what the true answers are. */
import type { Plugin } from "../../runtime/index.ts";
import { receiptTask } from "./receipt-fields.ts";

export { receiptPrompts } from "./receipt-fields.ts";

export const tasks: Plugin[] = [receiptTask];

// `copyd mv` against the machine's GNU mv: the same tree, the same words, the same status, as root and as an ordinary user.

import { mvCases } from "./mv/cases.ts";
import { mvDifferences } from "./mv/differences.ts";
import { defineCases } from "./suite.ts";

defineCases("mv", mvCases, mvDifferences);

// Prints the doctor's report about the paths it is given.

import { byteStringFromText } from "../../src/bytes.ts";
import { doctorReport } from "../../src/worker/doctor.ts";

process.stdout.write(JSON.stringify(doctorReport(process.argv.slice(2).map(byteStringFromText))));

// What the jobs room asks of a log; the service gives it the real one.

export type JobsLog = (level: "info" | "warning" | "error", message: string, fields: Readonly<Record<string, string | number>>) => void;

export const noLog: JobsLog = () => undefined;

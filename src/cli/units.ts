// Numbers for people: bytes, rates, counts and durations, each in as few characters as it can be told.

const byteUnits = ["B", "kB", "MB", "GB", "TB", "PB", "EB"] as const;

/** "0 B", "999 B", "1.0 kB", "12 MB", "1.2 GB": powers of 1000, two digits or more. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  // Rounding must not give "1000 kB".
  while (value >= 999.5 && unit < byteUnits.length - 1) {
    value /= 1000;
    unit++;
  }
  const digits = unit > 0 && value < 9.95 ? 1 : 0;
  return `${value.toFixed(digits)} ${byteUnits[unit] ?? ""}`;
}

export function formatRate(bytesPerSecond: number): string {
  return `${formatBytes(bytesPerSecond)}/s`;
}

/** "1,234,567". */
export function formatCount(count: number): string {
  return String(count).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** "0:07", "12:34", "1:02:03", "3d 04h". */
export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const two = (value: number): string => String(value).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  const hours = Math.floor(minutes / 60);
  if (hours >= 48) return `${Math.floor(hours / 24)}d ${two(hours % 24)}h`;
  if (hours > 0) return `${hours}:${two(minutes % 60)}:${two(whole % 60)}`;
  return `${minutes}:${two(whole % 60)}`;
}

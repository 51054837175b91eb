/** Numbers and times as people in one language read them. */
export interface Formats {
  count: (value: number) => string;
  rate: (value: number) => string;
  percent: (share: number) => string;
  /** With as many decimals as a rare event needs: 0.012 %, 3.6 %, 94.1 %. */
  percentRare: (share: number) => string;
  /** Without decimals: for estimates. */
  percentWhole: (share: number) => string;
  score: (value: number) => string;
  /** Three decimals: for thresholds and measured figures. */
  fine: (value: number) => string;
  milliseconds: (value: number) => string;
  bytes: (value: number) => string;
  /** How long ago, coarse: `12 s`, `3 min`, `5 h`. */
  age: (seconds: number) => string;
  minutes: (seconds: number) => string;
  clock: (atMs: number) => string;
  /** Hours and minutes today, with the date on another day. */
  since: (atMs: number) => string;
  stamp: (atMs: number) => string;
  /** A day without a year: `25 Nov`. */
  day: (atMs: number) => string;
  /** Day, hours and minutes. */
  dayAndMinute: (atMs: number) => string;
  minute: (atMs: number) => string;
}

export function makeFormats(locale: string): Formats {
  const number = (options: Intl.NumberFormatOptions) => new Intl.NumberFormat(locale, options);
  const whole = number({ maximumFractionDigits: 0 });
  const oneDigit = number({ minimumFractionDigits: 1, maximumFractionDigits: 1 });
  const percentFine = number({ style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
  const percentWhole = number({ style: "percent", maximumFractionDigits: 0 });
  const percentRare = number({ style: "percent", minimumSignificantDigits: 2, maximumSignificantDigits: 2 });
  const score = number({ minimumFractionDigits: 2, maximumFractionDigits: 2 });
  const scoreFine = number({ minimumFractionDigits: 3, maximumFractionDigits: 3 });
  const clock = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  const minute = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit" });
  const dayAndMinute = new Intl.DateTimeFormat(locale, {
    month: "short",
    day: "numeric",
    hour: "2-digit",
    minute: "2-digit",
  });
  const day = new Intl.DateTimeFormat(locale, { month: "short", day: "numeric" });
  const stamp = new Intl.DateTimeFormat(locale, {
    dateStyle: "medium",
    timeStyle: "medium",
  });
  return {
    count: (value) => whole.format(value),
    rate: (value) => (value >= 100 ? whole : oneDigit).format(value),
    percent: (share) => (share === 0 || share >= 0.9995 ? percentWhole : percentFine).format(share),
    percentRare: (share) => (share === 0 || share >= 0.9995 ? percentWhole : share < 0.0995 ? percentRare : percentFine).format(share),
    percentWhole: (share) => percentWhole.format(share),
    score: (value) => {
      if (value > 0 && value < 0.001) return `<${scoreFine.format(0.001)}`;
      return (value > 0 && value < 0.01 ? scoreFine : score).format(value);
    },
    fine: (value) => scoreFine.format(value),
    milliseconds: (value) => {
      if (value >= 10_000) return `${whole.format(value / 1000)} s`;
      if (value >= 1_000) return `${oneDigit.format(value / 1000)} s`;
      return `${(value < 10 ? oneDigit : whole).format(value)} ms`;
    },
    bytes: (value) => (value >= 1e6 ? `${oneDigit.format(value / 1e6)} MB` : `${whole.format(Math.ceil(value / 1e3))} kB`),
    age: (seconds) => {
      if (seconds < 90) return `${whole.format(Math.max(0, Math.floor(seconds)))} s`;
      if (seconds < 5_400) return `${whole.format(Math.round(seconds / 60))} min`;
      return `${whole.format(Math.round(seconds / 3600))} h`;
    },
    minutes: (seconds) => `${whole.format(seconds / 60)} min`,
    clock: (atMs) => clock.format(atMs),
    since: (atMs) => {
      const today = new Date().toDateString() === new Date(atMs).toDateString();
      return (today ? minute : dayAndMinute).format(atMs);
    },
    day: (atMs) => day.format(atMs),
    dayAndMinute: (atMs) => dayAndMinute.format(atMs),
    minute: (atMs) => minute.format(atMs),
    stamp: (atMs) => `${stamp.format(atMs)} · ${String(Math.floor(atMs % 1000)).padStart(3, "0")} ms`,
  };
}

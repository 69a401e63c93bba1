// Named events and who listens. A listener that throws is reported and hurts neither the others nor the one who told.

export class Listeners<Events extends { readonly [Name in keyof Events]: (...values: never[]) => void }> {
  private readonly byName = new Map<keyof Events, Events[keyof Events][]>();
  private readonly onFault: (cause: unknown) => void;

  constructor(onFault: (cause: unknown) => void) {
    this.onFault = onFault;
  }

  on<Name extends keyof Events>(name: Name, listener: Events[Name]): void {
    const listeners = this.byName.get(name);
    if (listeners === undefined) this.byName.set(name, [listener]);
    else listeners.push(listener);
  }

  emit<Name extends keyof Events>(name: Name, ...values: Parameters<Events[Name]>): void {
    for (const listener of this.byName.get(name) ?? []) {
      try {
        (listener as (...values: Parameters<Events[Name]>) => void)(...values);
      } catch (cause) {
        this.onFault(cause);
      }
    }
  }
}

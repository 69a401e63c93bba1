// What copyd uses of dbus-next: its marshalling of messages, as patches/dbus-next@0.10.2.patch leaves it.

declare module "dbus-next/lib/variant.js" {
  export class Variant {
    readonly signature: string;
    readonly value: unknown;
    constructor(signature: string, value: unknown);
  }
}

declare module "dbus-next/lib/message.js" {
  export interface RawHeader {
    readonly type: number;
    readonly flags: number;
    readonly serial: number;
    readonly bodyLength: number;
    readonly bodyStart: number;
    readonly endian: number;
    readonly path?: string;
    readonly interface?: string;
    readonly member?: string;
    readonly errorName?: string;
    readonly replySerial?: number;
    readonly destination?: string;
    readonly sender?: string;
    readonly signature?: string;
    readonly unixFd?: number;
  }
  export interface DecodeOptions {
    readonly maxValues: number;
  }
  export function unmarshallHeader(buffer: Buffer, options: DecodeOptions): RawHeader;
  export function unmarshallBody(buffer: Buffer, header: RawHeader, options: DecodeOptions): unknown[];
  export function marshall(message: object): Buffer;
}

declare module "dbus-next/lib/signature.js" {
  export interface SignatureTree {
    readonly type: string;
    readonly child: readonly SignatureTree[];
  }
  export function parseSignature(signature: string): readonly SignatureTree[];
}

/**
 * The names that people give things, and how an appliance is written on a command line.
 */
import { MAX_IMAGE_BYTES } from '../cluster.ts'
import { RowanError } from '../errors.ts'
import { quote } from './hash.ts'

export type NamedThing = 'appliance' | 'version' | 'channel' | 'machine' | 'alias'

const NAME = /^[a-z0-9][a-z0-9._-]{0,63}$/
/** Peer ids in base58; bounded, and checked for real where a signature is. */
const PUBLISHER = /^[1-9A-HJ-NP-Za-km-z]{8,128}$/

/** An appliance as a person writes it: `NAME`, `PUBLISHER/NAME`, either with `@VERSION` or `:CHANNEL` behind it. */
export interface ApplianceRef {
  publisher?: string
  name: string
  version?: string
  channel?: string
}

/** Returns `name` if it is one, else throws NAME_INVALID. */
export function checkName(name: string, what: NamedThing): string {
  if (typeof name !== 'string' || !NAME.test(name)) {
    throw new RowanError(
      'NAME_INVALID',
      `${quote(String(name))} is no valid name for ${what === 'alias' || what === 'appliance' ? 'an' : 'a'} ${what}: [a-z0-9][a-z0-9._-]{0,63}`
    )
  }
  return name
}

/** Returns `sizeBytes` if an image may have this size, else throws IMAGE_EMPTY or IMAGE_TOO_LARGE. */
export function checkSize(sizeBytes: number, what = 'the image'): number {
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0) {
    throw new RowanError('IMAGE_EMPTY', `${what} has a size of ${sizeBytes} bytes`)
  }
  if (sizeBytes > MAX_IMAGE_BYTES) {
    throw new RowanError('IMAGE_TOO_LARGE', `${what} has ${sizeBytes} bytes; the limit is ${MAX_IMAGE_BYTES} (8 TiB)`)
  }
  return sizeBytes
}

/** Throws APPLIANCE_REF_INVALID, with the text in its message. */
export function parseApplianceRef(text: string): ApplianceRef {
  const parts = /^(?:([^/@:]+)\/)?([^/@:]+)(?:@([^/@:]+)|:([^/@:]+))?$/.exec(text)
  const [, publisher, name, version, channel] = parts ?? []
  if (
    name === undefined ||
    (publisher !== undefined && !PUBLISHER.test(publisher)) ||
    ![name, version, channel].every(part => part === undefined || NAME.test(part))
  ) {
    throw new RowanError(
      'APPLIANCE_REF_INVALID',
      `${quote(text)} is no appliance; write NAME or PUBLISHER/NAME, with @VERSION or :CHANNEL behind it if needed`
    )
  }
  return {
    name,
    ...(publisher === undefined ? {} : { publisher }),
    ...(version === undefined ? {} : { version }),
    ...(channel === undefined ? {} : { channel })
  }
}

/** `PUBLISHER/NAME`. */
export function applianceId(publisher: string, name: string): string {
  return `${publisher}/${name}`
}

/** The parts of a `PUBLISHER/NAME`. Throws APPLIANCE_REF_INVALID. */
export function splitApplianceId(id: string): { publisher: string; name: string } {
  const { publisher, name, version, channel } = parseApplianceRef(id)
  if (publisher === undefined || version !== undefined || channel !== undefined) {
    throw new RowanError('APPLIANCE_REF_INVALID', `${quote(id)} is no full appliance id; it is PUBLISHER/NAME`)
  }
  return { publisher, name }
}

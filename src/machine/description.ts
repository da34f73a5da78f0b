/**
 * What a machine is, in its folder: machine.json.
 *
 * It is replaced whole (written aside, synced, renamed), so it is never half new. A machine whose description cannot be
 * understood is left alone and named in an error; the others go on.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { MAX_IMAGE_BYTES } from '../cluster.ts'
import { asRowanError, RowanError } from '../errors.ts'
import { checkName, splitApplianceId } from '../image/names.ts'
import { replaceFile } from '../store/durable-file.ts'
import { parseTcpAddress, type TcpAddress } from './tcp-address.ts'

export interface MachineDescription {
  format: 1
  name: string
  /** PUBLISHER/NAME. */
  appliance: string
  version: string
  /** The image's id: 64 hex digits. */
  image: string
  sizeBytes: number
  /** ISO 8601. */
  created: string
  readOnly: boolean
  /** Whether the daemon serves it, now and after a restart. */
  attached: boolean
  /** Random; ties the layers to this machine, also when folders are copied or renamed. */
  id: string
  /**
   * Whether its first layer was made. Until then nothing was ever written to the machine, and what lies in its folder
   * of layers is what a crash left over; from then on a layer that is missing is damage.
   */
  hasLayer: boolean
  /** Where it is served over TCP, too. */
  tcp?: TcpAddress
}

const FILE = 'machine.json'
/** A description is under 1 KiB; anything much larger is something else. */
const MAX_FILE_BYTES = 64 * 1024

/** @throws RowanError DISK_FULL, STORE_IO */
export async function writeDescription(folder: string, description: MachineDescription): Promise<void> {
  const path = join(folder, FILE)
  try {
    await replaceFile(path, Buffer.from(`${JSON.stringify(description, null, 2)}\n`))
  } catch (error) {
    throw asRowanError(error, 'STORE_IO', `cannot write ${path}`)
  }
}

/**
 * @param name - the folder's name, which must be the machine's
 * @throws RowanError MACHINE_CORRUPT with the path and what is wrong
 */
export function readDescription(folder: string, name: string): MachineDescription {
  const path = join(folder, FILE)
  let bytes: Buffer
  try {
    bytes = readFileSync(path)
  } catch (error) {
    throw new RowanError('MACHINE_CORRUPT', `cannot read ${path}: ${(error as Error).message}`, { cause: error })
  }
  try {
    if (bytes.length > MAX_FILE_BYTES) throw new TypeError(`it has ${bytes.length} bytes`)
    return checkDescription(JSON.parse(bytes.toString('utf8')), name)
  } catch (error) {
    throw new RowanError('MACHINE_CORRUPT', `${path} is damaged: ${(error as Error).message}`, { cause: error })
  }
}

/** Gives exactly the fields of a description, each of its kind, or throws with the field's name. */
function checkDescription(value: unknown, name: string): MachineDescription {
  if (typeof value !== 'object' || value === null) throw new TypeError('it is not an object')
  const given = value as Record<string, unknown>
  const text = (field: string, pattern: RegExp): string => {
    const each = given[field]
    if (typeof each === 'string' && pattern.test(each)) return each
    throw new TypeError(`"${field}" is not valid`)
  }
  const flag = (field: string): boolean => {
    const each = given[field]
    if (typeof each === 'boolean') return each
    throw new TypeError(`"${field}" is not valid`)
  }
  if (given.format !== 1) throw new TypeError(`its format is ${JSON.stringify(given.format)}, not 1`)
  if (given.name !== name) throw new TypeError(`it describes a machine named ${JSON.stringify(given.name)}`)
  const { sizeBytes } = given
  if (!Number.isSafeInteger(sizeBytes) || (sizeBytes as number) < 1 || (sizeBytes as number) > MAX_IMAGE_BYTES) {
    throw new TypeError('"sizeBytes" is not valid')
  }
  const appliance = text('appliance', /^/)
  splitApplianceId(appliance)
  return {
    format: 1,
    name: checkName(name, 'machine'),
    appliance,
    version: checkName(text('version', /^/), 'version'),
    image: text('image', /^[0-9a-f]{64}$/),
    sizeBytes: sizeBytes as number,
    created: text('created', /^\d{4}-\d{2}-\d{2}T/),
    readOnly: flag('readOnly'),
    attached: flag('attached'),
    id: text('id', /^[0-9a-f]{32}$/),
    hasLayer: flag('hasLayer'),
    ...(given.tcp === undefined ? {} : { tcp: checkTcp(given.tcp) })
  }
}

function checkTcp(value: unknown): TcpAddress {
  const { host, port } = (typeof value === 'object' && value !== null ? value : {}) as Partial<TcpAddress>
  if (typeof host !== 'string') throw new TypeError('"tcp" is not valid')
  return parseTcpAddress(host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`)
}

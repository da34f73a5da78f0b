/**
 * The file `chain.json` in a machine's folder of layers: `{"sha256": …, "chain": {…}}`, the hash being that of the
 * chain's JSON.
 *
 * It is replaced whole: written aside, synced, renamed into place, and the folder synced. So after a crash the old chain
 * or the new one is there, and whatever a chain names was durable before it. All that is read is checked before
 * it is believed: its size, its hash, each field, that parents stand before their children (no cycles), and that all
 * that is named exists.
 */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { MAX_IMAGE_BYTES } from '../cluster.ts'
import { RowanError } from '../errors.ts'
import {
  type Chain,
  type ChainDisk,
  checkNote,
  DISK_NAMES,
  type DiskName,
  EMPTY_IMAGE,
  MAX_LAYERS,
  MAX_SNAPSHOTS,
  type Snapshot
} from './chain.ts'
import type { LayerFiles } from './layer-files.ts'

export const CHAIN_FILE = 'chain.json'
const CHAIN_FORMAT = 1
/** 2 × 256 layers of at most 80 bytes, 1,024 snapshots of at most 1,000. */
const MAX_FILE_BYTES = 2 * 1024 * 1024
const LAYER_NAME: Record<DiskName, RegExp> = { system: /^\d{4,9}$/, data: /^d\d{4,9}$/ }

/** The chain of a folder; undefined if there is no such file. LAYER_CORRUPT names it and what is wrong. */
export function readChain(files: LayerFiles, folder: string): Chain | undefined {
  const path = join(folder, CHAIN_FILE)
  if (!files.exists(path)) return undefined
  const file = files.open(path)
  try {
    if (file.sizeBytes > MAX_FILE_BYTES) {
      throw new RowanError(
        'LAYER_CORRUPT',
        `${path} has ${file.sizeBytes} bytes; a chain has ${MAX_FILE_BYTES} at most`
      )
    }
    const bytes = Buffer.alloc(file.sizeBytes)
    file.readSync(bytes, 0, bytes.length, 0)
    return decodeChain(bytes)
  } catch (error) {
    if (!(error instanceof TypeError) && !(error instanceof SyntaxError)) throw error
    throw new RowanError('LAYER_CORRUPT', `${path} is damaged: ${error.message}`, { cause: error })
  } finally {
    file.close()
  }
}

/**
 * Puts a chain in place of the one before. DISK_FULL, STORE_IO.
 *
 * @param onRenamed - called when the new chain is in place: an error after that leaves open which of the two is on disk
 */
export async function writeChain(
  files: LayerFiles,
  folder: string,
  chain: Chain,
  onRenamed: () => void = () => {}
): Promise<void> {
  const path = join(folder, CHAIN_FILE)
  const aside = `${path}.new`
  const bytes = encodeChain(chain)
  files.remove(aside)
  const file = files.create(aside, bytes.length)
  try {
    file.writeSync(bytes, 0, bytes.length, 0)
    await file.sync()
  } finally {
    file.close()
  }
  files.rename(aside, path)
  onRenamed()
  files.syncFolder(folder)
}

export function encodeChain(chain: Chain): Buffer {
  const value = { format: CHAIN_FORMAT, ...chain }
  return Buffer.from(`${JSON.stringify({ sha256: hashOf(value), chain: value })}\n`)
}

/** @throws TypeError or SyntaxError saying what is wrong */
export function decodeChain(bytes: Uint8Array): Chain {
  const { sha256, chain } = object(JSON.parse(Buffer.from(bytes).toString('utf8')), 'it')
  const value = object(chain, '"chain"')
  if (sha256 !== hashOf(value)) throw new TypeError('its hash is wrong')
  if (value.format !== CHAIN_FORMAT) {
    throw new TypeError(`its format is ${JSON.stringify(value.format)}, not ${CHAIN_FORMAT}`)
  }
  const given = object(value.disks, '"disks"')
  const disks: Chain['disks'] = { system: disk(given.system, 'system') }
  if (given.data !== undefined) disks.data = disk(given.data, 'data')
  const snapshots = list(value.snapshots, MAX_SNAPSHOTS, '"snapshots"').map(each => snapshot(each, disks))
  distinct(snapshots.map(({ name }) => name))
  return {
    machine: text(value.machine, /^.{1,64}$/, '"machine"'),
    disks,
    nextSnapshot: number(value.nextSnapshot, 1, Number.MAX_SAFE_INTEGER, '"nextSnapshot"'),
    snapshots
  }
}

function disk(value: unknown, name: DiskName): ChainDisk {
  const given = object(value, `the disk "${name}"`)
  const layers = list(given.layers, MAX_LAYERS, `the layers of "${name}"`).map(each => {
    const layer = object(each, 'a layer')
    return {
      name: text(layer.name, LAYER_NAME[name], 'the name of a layer'),
      parent: layer.parent === null ? null : text(layer.parent, LAYER_NAME[name], 'the parent of a layer'),
      revision: number(layer.revision, 0, Number.MAX_SAFE_INTEGER, 'the revision of a layer')
    }
  })
  distinct(layers.map(layer => layer.name))
  const before = new Set<string | null>([null])
  for (const layer of layers) {
    if (!before.has(layer.parent)) throw new TypeError(`the layer ${layer.name} stands before its parent`)
    before.add(layer.name)
  }
  const top = text(given.top, LAYER_NAME[name], `the top of "${name}"`)
  if (!before.has(top)) throw new TypeError(`the top of "${name}" is none of its layers`)
  if (layers.some(layer => layer.parent === top)) throw new TypeError(`the top of "${name}" is under another layer`)
  const highest = Math.max(...layers.map(layer => Number(layer.name.replace('d', ''))))
  return {
    image: text(given.image, name === 'data' ? new RegExp(`^${EMPTY_IMAGE}$`) : /^[0-9a-f]{64}$/, '"image"'),
    sizeBytes: number(given.sizeBytes, 1, MAX_IMAGE_BYTES, '"sizeBytes"'),
    top,
    next: number(given.next, highest + 1, 999_999_999, '"next"'),
    layers
  }
}

function snapshot(value: unknown, disks: Chain['disks']): Snapshot {
  const given = object(value, 'a snapshot')
  const places = object(given.at, 'the place of a snapshot')
  const at: Snapshot['at'] = {}
  for (const name of DISK_NAMES) {
    const place = places[name]
    if (place === undefined) continue
    const known =
      place === null || disks[name]?.layers.some(layer => layer.name === place && place !== disks[name]?.top)
    if (known !== true) throw new TypeError('the place of a snapshot is no frozen layer')
    at[name] = place as string | null
  }
  if (at.system === undefined) throw new TypeError('a snapshot has no place of the system disk')
  const note = text(given.note, /^/, 'the note of a snapshot')
  try {
    checkNote(note)
  } catch (error) {
    throw new TypeError((error as Error).message)
  }
  if (given.isTemporary !== undefined && given.isTemporary !== true) {
    throw new TypeError('"isTemporary" of a snapshot is not valid')
  }
  return {
    name: text(given.name, /^s[1-9]\d{0,14}$/, 'the name of a snapshot'),
    note,
    taken: text(given.taken, /^\d{4}-\d\d-\d\dT[\d:.]{1,16}Z$/, 'the time of a snapshot'),
    ...(given.isTemporary === true ? { isTemporary: true } : {}),
    at
  }
}

function hashOf(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex')
}

function object(value: unknown, what: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>
  throw new TypeError(`${what} is not an object`)
}

function list(value: unknown, limit: number, what: string): unknown[] {
  if (!Array.isArray(value)) throw new TypeError(`${what} is not a list`)
  if (value.length > limit) throw new TypeError(`${what} has ${value.length} entries; ${limit} is the limit`)
  return value
}

function text(value: unknown, pattern: RegExp, what: string): string {
  if (typeof value === 'string' && pattern.test(value)) return value
  throw new TypeError(`${what} is not valid`)
}

function number(value: unknown, min: number, max: number, what: string): number {
  if (Number.isSafeInteger(value) && (value as number) >= min && (value as number) <= max) return value as number
  throw new TypeError(`${what} is not valid`)
}

function distinct(names: string[]): void {
  if (new Set(names).size < names.length) throw new TypeError('a name is given twice')
}

/**
 * What is done to a layer's files before there is a Layer: making them, opening them, bringing a map up to date, taking over a
 * log of the first format.
 */
import { join } from 'node:path'
import type { Log } from '../environment.ts'
import { asRowanError, RowanError } from '../errors.ts'
import type { LayerFile, LayerFiles } from './layer-files.ts'
import {
  checkIdentity,
  checkSize,
  IDENTITY_BYTES,
  identityPosition,
  type LayerIdentity,
  readIdentity
} from './layer-identity.ts'
import { LayerLog, type LogRecord } from './layer-log.ts'
import { readFirstFormatLog } from './layer-log-v1.ts'
import { LayerMap, SECTOR_BYTES, SECTOR_DATA, SECTOR_ZERO } from './layer-map.ts'
import { LayerMapFile } from './layer-map-file.ts'
import { layerFailed } from './layer-syncs.ts'

/** The files of a layer that is being opened: each is there, or all are closed again. */
export class OpeningFiles {
  readonly files: LayerFiles
  readonly folder: string
  readonly #opened = new Set<LayerFile>()

  constructor(files: LayerFiles, folder: string) {
    this.files = files
    this.folder = folder
  }

  /** LAYER_CORRUPT where it is missing. */
  open(name: 'data' | 'map' | 'log'): LayerFile {
    const path = join(this.folder, name)
    if (!this.files.exists(path)) throw new RowanError('LAYER_CORRUPT', `${path} is missing`)
    const file = this.files.open(path)
    this.#opened.add(file)
    return file
  }

  /** LAYER_CORRUPT where it is missing, cut short, or another layer's. */
  openData(identity: LayerIdentity): LayerFile {
    const data = this.open('data')
    const position = identityPosition(identity.sizeBytes)
    checkSize(data, position + IDENTITY_BYTES)
    checkIdentity(data, position, 'data', identity)
    return data
  }

  close(file: LayerFile): void {
    this.#opened.delete(file)
    file.close()
  }

  closeAll(): void {
    for (const file of this.#opened) file.close()
    this.#opened.clear()
  }
}

export interface LayerParts {
  data: LayerFile
  map: LayerMap
  mapFile: LayerMapFile
  pending: LayerLog
}

/** What `openParts` needs to know of a layer's components and limits. */
interface PartsSettings {
  log: Log
  bootId: string
}
interface PartsLimits {
  logAreaBytes: number
  maxCleanPages?: number
}

/**
 * Opens the files of a layer; of one that failed, as they are on the disk. LAYER_CORRUPT; LAYER_FAILED where the disk still refuses.
 *
 * After a failed sync Linux shows what it has not written, and calls it written. And where that was the first write of a place,
 * ext4 never writes down that there is anything, also when later ones end well: after a power loss it reads as zeros. Both end
 * when the cache is forgotten.
 */
export async function openParts(
  opening: OpeningFiles,
  settings: PartsSettings,
  identity: LayerIdentity,
  limits: PartsLimits
): Promise<LayerParts> {
  const parts = await openOnce(opening, settings, identity, limits)
  if (parts.pending.condition !== 'failed') return parts
  const { folder } = opening
  settings.log.warn('a layer had failed: all of it is written once more', { folder, bytes: parts.data.allocatedBytes })
  try {
    // The mark is in the cache, too.
    parts.pending.markFailed()
    await parts.pending.sync()
  } catch (error) {
    throw layerFailed(folder, error)
  }
  opening.closeAll()
  for (const name of ['data', 'map', 'log']) {
    try {
      await opening.files.forget(join(folder, name))
    } catch (error) {
      const { code, message } = asRowanError(error)
      settings.log.warn('what the cache holds of a layer that failed may not be on the disk', { code, message })
    }
  }
  return await openOnce(opening, settings, identity, limits)
}

async function openOnce(
  opening: OpeningFiles,
  { bootId }: PartsSettings,
  identity: LayerIdentity,
  limits: PartsLimits
): Promise<LayerParts> {
  const { files, folder } = opening
  const data = opening.openData(identity)
  const mapFile = LayerMapFile.open(opening.open('map'), identity)
  const map = new LayerMap(Math.ceil(identity.sizeBytes / SECTOR_BYTES), mapFile, limits.maxCleanPages)
  mapFile.load(map)
  let log = opening.open('log')
  if (readIdentity(log, 0)?.format === 1) {
    await replaceFirstFormatLog(log, { data, map, mapFile }, bootId, { files, folder, identity, limits })
    opening.close(log)
    log = opening.open('log')
  }
  return { data, map, mapFile, pending: LayerLog.open(log, identity, bootId, limits.logAreaBytes) }
}

/** Pages of the map that are in memory at once while it is written. */
const PAGES_PER_SYNC = 8192

/** The map as it is becomes what the map file says. Nobody else may be at work. */
export async function makeDurable(data: LayerFile, map: LayerMap, mapFile: LayerMapFile): Promise<void> {
  await data.sync()
  do {
    const pages = map.freeze(PAGES_PER_SYNC)
    try {
      await mapFile.prepare(pages)
      await mapFile.write(pages)
      await mapFile.sync()
      map.thaw()
    } catch (error) {
      map.thaw(pages)
      throw error
    }
  } while (map.changedPages > 0)
}

/** Data that is written again with one call; where it cannot be read, it is tried in parts of a block. */
const AGAIN_BYTES = 256 * 1024
const BLOCK_BYTES = 4096

/**
 * Writes all data of a layer once more, as it is read now; the next sync makes it durable.
 *
 * What a failed sync could not write stays in the page cache as if it had been, so that reading shows what is not on the disk,
 * and no sync writes it. Nobody knows what that is. What cannot be read is on the disk alone, and is left as it is.
 */
export async function writeAgain(data: LayerFile, map: LayerMap): Promise<void> {
  for (let start = 0; start < map.sectors; ) {
    const end = map.runEnd(start, map.sectors)
    if (map.stateAt(start) === SECTOR_DATA) {
      await writePartsAgain(data, start * SECTOR_BYTES, end * SECTOR_BYTES, AGAIN_BYTES)
    }
    start = end
  }
}

async function writePartsAgain(data: LayerFile, start: number, end: number, partBytes: number): Promise<void> {
  for (let at = start; at < end; ) {
    const next = Math.min(end, (Math.floor(at / partBytes) + 1) * partBytes)
    const bytes = Buffer.alloc(next - at)
    if (await isReadable(data, bytes, at)) await data.write(bytes, at)
    else if (partBytes > BLOCK_BYTES) await writePartsAgain(data, at, next, BLOCK_BYTES)
    at = next
  }
}

async function isReadable(data: LayerFile, target: Buffer, position: number): Promise<boolean> {
  try {
    await data.read(target, position)
    return true
  } catch {
    return false
  }
}

/** Brings a log of the first format into the map file, and puts an empty one of the present format in its place. */
async function replaceFirstFormatLog(
  log: LayerFile,
  { data, map, mapFile }: { data: LayerFile; map: LayerMap; mapFile: LayerMapFile },
  bootId: string,
  to: { files: LayerFiles; folder: string; identity: LayerIdentity; limits: { logAreaBytes: number } }
): Promise<void> {
  const { files, folder, identity, limits } = to
  const { condition, records } = readFirstFormatLog(log, identity, bootId)
  for (const record of records) applyRecord(map, record, log.path)
  if (condition === 'failed') {
    mapFile.markAllChanged(map)
    await writeAgain(data, map)
  }
  await makeDurable(data, map, mapFile)
  const next = join(folder, 'log.new')
  files.removeFolder(next)
  await makeFile(files, next, LayerLog.sizeBytes(limits.logAreaBytes), file => LayerLog.create(file, identity))
  files.rename(next, join(folder, 'log'))
  files.syncFolder(folder)
}

/** A file with something in it, durable but for its name. */
export async function makeFile(
  files: LayerFiles,
  path: string,
  sizeBytes: number,
  fill: (file: LayerFile) => void
): Promise<void> {
  const file = files.create(path, sizeBytes)
  try {
    fill(file)
    await file.sync()
  } finally {
    file.close()
  }
}

/** @throws RowanError LAYER_CORRUPT, naming the log at `path`, for what cannot be */
export function applyRecord(map: LayerMap, { start, count, state }: LogRecord, path: string): void {
  const known = state === SECTOR_DATA || state === SECTOR_ZERO
  if (!known || count === 0 || start + count > map.sectors) {
    const says = `state ${state} for ${count} sectors from ${start}`
    throw new RowanError('LAYER_CORRUPT', `${path}: a record says ${says}`)
  }
  map.set(start, start + count, state)
}

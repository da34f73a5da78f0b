/**
 * SIGKILL in the middle of writes, on real files: every acknowledged write is there for the next process, again and again.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { RowanDisk } from '../../src/disk/rowan-disk.ts'
import { waitUntil } from '../tools/wait.ts'
import { components, TestImage } from '../unit/disk/support/test-image.ts'
import { isTrim, LIMITS, NOTE, NOTE_BYTES } from './disk-kill-child.ts'

/** Three map pages. */
const SIZE_BYTES = 20 * 1024 * 1024
const ROUNDS = 6
const CHILD = join(import.meta.dirname, 'disk-kill-child.ts')

let folder: string
let child: ChildProcess | undefined
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'rowan-kill-'))
})
afterEach(async () => {
  await kill()
  rmSync(folder, { recursive: true })
})

async function kill(): Promise<void> {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  child.kill('SIGKILL')
  await gone
}

async function until(what: string, condition: () => boolean): Promise<void> {
  const isThere = () => {
    if (child?.exitCode === 1) throw new Error(`${what} did not happen`)
    return condition()
  }
  await waitUntil(what, isThere, { pollMs: 2 })
}

/** In place of a change: what the image holds there. */
const ORIGINAL = -1

/** What each sector may hold: the change that was acknowledged last, or one that was issued after it. */
function allowedBy(notes: Buffer): { allowed: Map<number, number[]>; acknowledged: number; last: number } {
  const allowed = new Map<number, number[]>()
  let acknowledged = 0
  let last = 0
  for (let at = 0; at + NOTE_BYTES <= notes.length; at += NOTE_BYTES) {
    const [kind, change, first, count] = [0, 4, 8, 12].map(field => notes.readUInt32LE(at + field)) as [
      number,
      number,
      number,
      number
    ]
    if (kind === NOTE.acknowledged) acknowledged++
    last = Math.max(last, change)
    for (let sector = first; sector < first + count; sector++) {
      const changes = allowed.get(sector) ?? [ORIGINAL]
      allowed.set(sector, kind === NOTE.acknowledged ? [change] : [...changes, change])
    }
  }
  return { allowed, acknowledged, last }
}

function contentOf(change: number, sector: number, image: TestImage): Uint8Array {
  if (change === ORIGINAL) return image.expected(sector * 512, Buffer.alloc(512))
  const content = Buffer.alloc(512)
  if (isTrim(change)) return content
  for (let at = 0; at < 512; at += 4) content.writeUInt32LE(change, at)
  return content
}

test('what a killed daemon acknowledged is there for the next one under the same boot', {
  timeout: 120_000
}, async () => {
  const layers = join(folder, 'layers')
  const notesFile = join(folder, 'notes')
  const image = new TestImage(SIZE_BYTES)
  writeFileSync(notesFile, '')
  let last = 0
  let acknowledgedBefore = 0
  for (let round = 0; round < ROUNDS; round++) {
    child = spawn(process.execPath, [CHILD, layers, 'boot', String(SIZE_BYTES), String(last + 1), notesFile], {
      stdio: 'inherit'
    })
    const before = statSync(notesFile).size
    await until('a thousand writes', () => statSync(notesFile).size > before + 2 * 1000 * NOTE_BYTES)
    await new Promise(resolve => setTimeout(resolve, Math.random() * 30))
    await kill()
    expect(existsSync(layers)).toBe(true)

    const found = allowedBy(readFileSync(notesFile))
    expect(found.acknowledged).toBeGreaterThan(acknowledgedBefore)
    acknowledgedBefore = found.acknowledged
    last = found.last
    // Looked at in a copy: the next daemon finds it as the killed one left it.
    const copy = join(folder, `copy-${round}`)
    cpSync(layers, copy, { recursive: true })
    const disk = await RowanDisk.open(components(image, 'boot'), {
      folder: copy,
      machine: 'm',
      readOnly: false,
      limits: LIMITS
    })
    const bytes = Buffer.alloc(SIZE_BYTES)
    expect(disk.read(0, bytes)).toBeUndefined()
    await disk.close()
    rmSync(copy, { recursive: true })
    for (let sector = 0; sector < SIZE_BYTES / 512; sector++) {
      const content = bytes.subarray(sector * 512, (sector + 1) * 512)
      const changes = found.allowed.get(sector) ?? [ORIGINAL]
      if (changes.some(change => Buffer.compare(content, contentOf(change, sector, image)) === 0)) continue
      throw new Error(`round ${round}: sector ${sector} begins with ${content.readUInt32LE(0)}, not one of ${changes}`)
    }
  }
})

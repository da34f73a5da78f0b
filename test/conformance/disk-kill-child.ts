/**
 * A daemon to be killed: writes random sectors to a RowanDisk, and notes each write before it begins and after it was
 * acknowledged. Notes go to a file by `write(2)`, so that they outlive the process as the disk's own files do.
 *
 *     node disk-kill-child.ts FOLDER BOOT_ID SIZE_BYTES FIRST_CHANGE NOTES_FILE
 */
import { openSync, writeSync } from 'node:fs'
import { RowanDisk } from '../../src/disk/rowan-disk.ts'
import { components, TestImage } from '../unit/disk/support/test-image.ts'

export const NOTE_BYTES = 16
export const NOTE = { issued: 1, acknowledged: 2 } as const

/** A short log, so that many flushes begin by themselves. */
export const LIMITS = { logAreaBytes: 100_000, maxChangedPages: 100, maxLoggedBytes: 16_384 }
export const isTrim = (change: number) => change % 5 === 0

const MAX_SECTORS = 24

async function main([folder, bootId, size, firstChange, notesFile]: string[]): Promise<void> {
  const image = new TestImage(Number(size))
  const disk = await RowanDisk.open(components(image, bootId), {
    folder: folder!,
    machine: 'm',
    readOnly: false,
    create: true,
    limits: LIMITS
  })
  const notes = openSync(notesFile!, 'a')
  const note = Buffer.alloc(NOTE_BYTES)
  const sectors = Number(size) / 512
  for (let change = Number(firstChange); ; change++) {
    const first = Math.floor(Math.random() * sectors)
    const count = Math.min(1 + Math.floor(Math.random() * MAX_SECTORS), sectors - first)
    note.writeUInt32LE(NOTE.issued, 0)
    note.writeUInt32LE(change, 4)
    note.writeUInt32LE(first, 8)
    note.writeUInt32LE(count, 12)
    writeSync(notes, note)
    const bytes = Buffer.alloc(count * 512)
    for (let at = 0; at < bytes.length; at += 4) bytes.writeUInt32LE(change, at)
    const done = isTrim(change) ? disk.trim(first * 512, count * 512) : disk.write(first * 512, bytes)
    if (done !== undefined) await done
    disk.settle()
    note.writeUInt32LE(NOTE.acknowledged, 0)
    writeSync(notes, note)
    if (change % 50 === 0) disk.flush()?.catch(fail)
    // Flushes go on between writes, as they do under a server.
    if (change % 10 === 0) await new Promise(resolve => setImmediate(resolve))
  }
}

function fail(error: unknown): void {
  console.error(error)
  process.exit(1)
}

if (process.argv[1] === import.meta.filename) main(process.argv.slice(2)).catch(fail)

/**
 * What goes wrong while a boot is recorded; a boot that goes well is in test/e2e/boot-profile.test.ts, with a guest.
 */
import { chmodSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { recordBoot } from '../../../src/machine/boot-recording.ts'
import { systemClock } from '../../../src/node/system.ts'
import type { LocalImage } from '../../../src/store/images.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'
import { components, TestImage } from '../disk/support/test-image.ts'
import { withCode } from '../image/with-code.ts'

let folder: string

beforeEach(async () => {
  folder = await temporaryFolder()
  mkdirSync(join(folder, 'nbd'))
})
afterEach(removeFolders)

/** @param script - what stands in for QEMU; it gets the same arguments */
function record(script: string | undefined, more: { limitMs?: number; signal?: AbortSignal } = {}) {
  const qemu = join(folder, 'qemu')
  if (script !== undefined) {
    writeFileSync(qemu, `#!/bin/sh\n${script}\n`)
    chmodSync(qemu, 0o700)
  }
  mkdirSync(join(folder, 'tmp'), { recursive: true })
  const image = new TestImage(8 * 65536)
  return recordBoot(
    image as unknown as LocalImage,
    { ...components(image), clock: systemClock },
    { temporaryFolder: join(folder, 'tmp'), socketFolder: join(folder, 'nbd'), kvm: false, qemu, ...more }
  )
}

afterEach(() => {
  // Whatever happened, nothing is left of the machine.
  expect(readdirSync(join(folder, 'tmp'))).toEqual([])
  expect(readdirSync(join(folder, 'nbd'))).toEqual([])
})

test('a guest that leaves with an error, with what QEMU said last', async () => {
  const failing = record('echo "first line" >&2; echo "no such machine" >&2; exit 3')
  await expect(failing).rejects.toThrow(withCode('BOOT_FAILED'))
  await expect(failing).rejects.toThrow(/status 3: no such machine/)
})

test('a guest that switches itself off without having read anything', async () => {
  await expect(record('exit 0')).rejects.toThrow(withCode('BOOT_FAILED'))
})

test('a guest that reads nothing until the time is over is ended', async () => {
  await expect(record('exec sleep 600', { limitMs: 600 })).rejects.toThrow(withCode('BOOT_FAILED'))
})

test('a publisher who changes his mind', async () => {
  const controller = new AbortController()
  const recording = record('exec sleep 600', { signal: controller.signal })
  setTimeout(() => controller.abort(), 100)
  await expect(recording).rejects.toThrow(withCode('ABORTED'))
})

test('a host without QEMU', async () => {
  await expect(record(undefined)).rejects.toThrow(withCode('TOOL_MISSING'))
})

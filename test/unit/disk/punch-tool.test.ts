import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { punchHoles } from '../../../src/disk/punch-tool.ts'
import { RowanDisk } from '../../../src/disk/rowan-disk.ts'
import { findTool } from '../../tools/need.ts'
import { waitUntil } from '../../tools/wait.ts'
import { components, TestImage } from './support/test-image.ts'

const SIZE_BYTES = 1024 * 1024

let root: string
let folder: string
const parts = components(new TestImage(SIZE_BYTES))
const open = () => RowanDisk.open(parts, { folder, machine: 'm', readOnly: false, create: true })

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'rowan-tool-'))
  folder = join(root, 'layers')
})
afterEach(() => rmSync(root, { recursive: true }))

describe.skipIf(findTool('fallocate') === undefined)('punching', () => {
  test('that a daemon had begun when it was killed is over before its layers are opened again', async () => {
    const disk = await open()
    await disk.write(0, Buffer.alloc(8192, 1))
    await disk.close()
    // A host's disk that is busy: it begins, and takes its time.
    const [tools, started, go] = [join(root, 'bin'), join(root, 'started'), join(root, 'go')]
    mkdirSync(tools)
    const slow = `#!/bin/sh\n: > ${started}\nwhile [ ! -e ${go} ]; do sleep 0.02; done\nexec ${findTool('fallocate')} "$@"\n`
    writeFileSync(join(tools, 'fallocate'), slow)
    chmodSync(join(tools, 'fallocate'), 0o755)
    const child = spawn(
      process.execPath,
      [
        '--disable-warning=ExperimentalWarning',
        join(import.meta.dirname, 'support/punching-child.ts'),
        join(folder, '0001/data')
      ],
      { env: { ...process.env, PATH: `${tools}:${process.env.PATH}` }, stdio: 'inherit' }
    )
    await waitUntil('the tool', () => existsSync(started))
    child.kill('SIGKILL')
    await once(child, 'exit')
    let isOpen = false
    const opening = open().then(opened => {
      isOpen = true
      return opened
    })
    await new Promise(resolve => setTimeout(resolve, 300))
    const wasOpen = isOpen
    writeFileSync(go, '')
    const again = await opening
    await again.write(0, Buffer.alloc(4096, 2))
    await again.close()
    expect(wasOpen).toBe(false)
  })

  test('takes whole parts of a file, and says what the tool says where it cannot', async () => {
    mkdirSync(join(folder, '0001'), { recursive: true })
    const file = join(folder, '0001', 'data')
    writeFileSync(file, Buffer.alloc(256 * 1024, 1))
    const before = statSync(file).blocks
    await punchHoles(file, [
      { startBytes: 0, lengthBytes: 65_536 },
      { startBytes: 131_072, lengthBytes: 65_536 }
    ])
    expect(statSync(file).blocks).toBe(before - 256)
    await expect(punchHoles(join(folder, '0001', 'none'), [{ startBytes: 0, lengthBytes: 4096 }])).rejects.toThrow(
      expect.objectContaining({ code: 'TOOL_MISSING', message: expect.stringContaining('none') })
    )
  })
})

import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { commandsPage, configPage, errorsPage } from '../../../scripts/generate-docs.ts'
import { ERRORS } from '../../../src/errors.ts'
import { DEFAULTS } from '../../../src/node/settings-table.ts'

const page = (name: string) => readFileSync(new URL(`../../../docs/${name}`, import.meta.url), 'utf8')

test('docs/CONFIG.md is what the table of settings says (node scripts/generate-docs.ts)', () => {
  expect(page('CONFIG.md')).toBe(configPage())
})

test('docs/ERRORS.md is what the table of errors says (node scripts/generate-docs.ts)', () => {
  expect(page('ERRORS.md')).toBe(errorsPage())
})

test('docs/COMMANDS.md is what the commands say of themselves (node scripts/generate-docs.ts)', () => {
  expect(page('COMMANDS.md')).toBe(commandsPage())
})

test('every setting and every error has a line of its own', () => {
  for (const [section, settings] of Object.entries(DEFAULTS)) {
    const part = page('CONFIG.md').split(`## [${section}]`)[1]?.split('\n## ')[0]
    for (const name of Object.keys(settings)) expect(part).toMatch(new RegExp(`^\\| \`${name}\` \\|`, 'm'))
  }
  for (const code of Object.keys(ERRORS)) expect(page('ERRORS.md')).toMatch(new RegExp(`^\\| \`${code}\` \\|`, 'm'))
})
